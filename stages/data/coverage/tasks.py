"""What kind of task a prompt sets, read off its opening and its end by ordered rules. Made for English.

The rules look at words that order or ask, not at topics: "write a poem about maths" is writing. The first rule that
fits names the type. docs/coverage.md has the accuracy on prompts that were labelled by hand.
"""

import re
from collections.abc import Sequence

TASKS = {  # type -> what to collect where it is missing
    "question_answering": "questions of fact and requests to explain or compare",
    "closed_qa": "questions about a passage that stands in the prompt",
    "classification": "texts to be put into given classes, true-or-false and multiple choice",
    "extraction": "texts from which names, dates or fields are to be taken",
    "summarising": "texts to be shortened, titled or put into key points",
    "rewriting": "texts to be corrected, rephrased, reordered or put into another tone",
    "translation": "texts to be put into another language",
    "brainstorming": "requests for lists, ideas, names and examples",
    "writing": "letters, e-mails, stories, poems, posts and descriptions to be written",
    "code": "programs to be written, explained or mended",
    "mathematics": "calculations, word problems, proofs and puzzles",
    "advice": "plans, recommendations and how-to questions of one's own life and work",
    "chat": "greetings, thanks, feelings and small talk",
    "constraints": "answers in a prescribed form: JSON, a table, an exact number of words",
    "role_play": "conversations in which the assistant plays somebody",
}
OTHER = "other"
HEAD, TAIL = 320, 200  # letters of a prompt in which its task is looked for
PASSAGE = 100  # letters from which what stands beside an instruction is a passage

POLITE = re.compile(
    r"^(?:(?:please|kindly|hi|hey|hello|ok(?:ay)?|so|now|well|sorry|thanks|(?:can|could|would|will) you(?: please)?"
    r"(?: help me(?: to)?)?|i(?:'d| would) like(?: for)? you to|i (?:want|need) you to|help me(?: to)?|let's|"
    r"(?:your|the) (?:task|job|goal) is to|in this task,?|instructions?:|task:|question:|definition:|q:|teacher:)[\s,!.]+)+"
)
LANGUAGES = (
    r"(?:english|french|german|spanish|italian|portuguese|dutch|swedish|russian|chinese|mandarin|japanese|korean|arabic"
    r"|hindi|hebrew|latin|greek|turkish|polish|czech|danish|norwegian|finnish|ukrainian|vietnamese|persian|welsh|urdu)"
)
# What begins a command: the start, the end of a sentence or clause, or words that lead up to a verb.
DO = r"(?:^|[.!?:;,\n]\s*|\b(?:to|and|then|please|should|must|you|me|now)\s+)(?:please |briefly |quickly |now )?"
TEXT = r"(?:text|passage|paragraph|article|story|sentence|statement|email|e-mail|review|dialogue|conversation|letter)s?"
WRITTEN = (
    r"(?:stor(?:y|ies)|poems?|songs?|lyrics|essays?|letters?|e-?mails?|haikus?|limericks?|dialogues?|conversations?"
    r"|speech(?:es)?|toasts?|paragraphs?|articles?|blogs?|posts?|tweets?|reviews?|slogans?|taglines?|jokes?|captions?"
    r"|scripts?|scenes?|reports?|headlines?|ads?|advertisements?|press|announcements?|messages?|notes?|sentences?"
    r"|descriptions?|bios?|biograph\w+|resumes?|cvs?|plots?|characters?|rhymes?|riddles?|questions?|surveys?|quiz"
    r"|text|invitations?|statements?|proposals?|introductions?|conclusions?|memos?|replies|reply|responses?|cover"
    r"|fairy|fables?|metaphors?|similes?|phrases?|verses?|monologues?|quotes?|reminders?|recipes?|outlines?|user)"
)
CODE = (
    r"(?:python|java(?:script)?|typescript|node\.?js|c\+\+|c#|rust|golang|ruby|php|perl|sql|html|css|regex|regular"
    r" expression|bash|shell|powershell|pandas|numpy|django|react|latex|excel formula|algorithms?|pseudo-?code"
    r"|source code|code snippet|api|json parser|linked list|binary tree|unit tests?|dockerfile|makefile|cron|git)"
)
NUMBER = r"(?:[$£€]?\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|half|dozen)"
UNIT = (
    r"celsius|fahrenheit|(?:kilo|centi|milli)?met(?:er|re)s?|k?m|cm|mm|miles?|yards?|feet|foot|inch(?:es)?|(?:kilo|milli)?"
    r"grams?|kg|g|pounds?|ounces?|tonnes?|hours?|minutes?|seconds?|days?|weeks?|months?|years?|(?:milli|centi)?lit(?:er|re)s?"
    r"|ml|cups?|gallons?|dollars?|cents?|euros?|pence|percent|decades?|centur(?:y|ies)|dozens?"
)
RULES: tuple[tuple[str, str], ...] = (
    (
        "role_play",
        r"^(?:act|behave|respond|reply|answer|talk|speak|pretend|imagine)(?: to me)? (?:as if you|like you|as an? |as though"
        r"|you(?:'re| are)|to be|that you)|\brole-?play|\bplay the (?:role|part) of|\bstay in character"
        r"|^from now on,? you|^i want you to act|\bact as (?:an?|the|my)\b|^you are (?:now )?(?:an?|the|my|called|named) "
        r"(?!(?:helpful )?(?:ai |language )?(?:assistant|model)\b)(?:[\w'-]+ ){0,4}\w+(?:[.,;]| who| named| called| from)",
    ),
    (
        "translation",
        rf"\btranslat(?:e|ion|ing)\b|\b(?:write|say|put|convert|render)\b.{{0,60}}\b(?:in|into|to) {LANGUAGES}\b"
        rf"|\bhow (?:do|would|to|can) (?:you |i )?(?:say|write) .{{1,60}} in {LANGUAGES}"
        rf"|\bwhat (?:is|does) .{{1,60}}(?:mean )?in {LANGUAGES}\??$",
    ),
    (
        "code",
        r"```|\bdef \w+\(|#include\b|\bpublic static\b|\bselect .{1,80} from \w+|console\.log|^import \w+$"
        rf"|\b(?:in|using|with|on) {CODE}\b|{DO}(?:write|create|implement|develop|design|build|generate|construct|code|"
        rf"debug|refactor|optimi[sz]e|fix|give|show|edit|describe|explain|suggest|make|improve|convert)\b[^.?!\n]{{0,60}}"
        rf"\b(?:{CODE}|functions?|programs?|code|class(?:es)?\b(?! of)|quer(?:y|ies)|command line|bash command|sed command)\b"
        rf"(?! for (?:kids|children))|\b(?:how (?:do|can|to|would)|why (?:does|is))\b[^.?!\n]{{0,80}}\b{CODE}\b",
    ),
    (
        "constraints",
        r"\bjson\b|\b(?:begin|start|end|finish)(?:ing)? (?:your|the|each|every) (?:answer|reply|response|line)s? with\b",
    ),
    (
        "rewriting",
        r"^(?:rewrite|re-write|rephrase|paraphrase|reword|proofread|shorten|capitali[sz]e|punctuate|reverse|alphabeti[sz]e)\b"
        r"|\b(?:into|in|to|as) (?:all )?(?:capitals|capital letters|small letters|block letters)\b|\bcapital first letters?"
        r"|\b(?:turn|make|put|change|join|flip) (?:this|these|it|the two|the following|the order|each)\b"
        r"|\b(?:alphabetical|ascending|descending|opposite|reverse|dictionary) order\b|\bfrom a to z\b|\ba-z order\b"
        r"|\b(?:low(?:est)?|small(?:est)?|high(?:est)?|large(?:st)?|big(?:gest)?) to (?:high|large|low|small|big)",
    ),
    (
        "mathematics",
        r"\b\d+ ?(?:x|times|plus|minus|divided by) ?\d|^(?:work out|calculate|compute|solve|add (?=[\d(]|up|the numbers)|multiply|divide|count)"
        rf"|\b{NUMBER}\b.{{1,160}}\b{NUMBER}\b.{{0,160}}\b(?:how (?:many|much|long|far|old)|what (?:remains|is left)|in total"
        r"|altogether|what is one|is (?:that|there)|are (?:there|left))\b.{0,80}\?"
        rf"|\b(?:express|change|convert|turn|give|what(?:'s| is| are)|how (?:many|much)) .{{0,30}}\b{NUMBER} (?:{UNIT})\b(?= (?:in|to|into|as|are|equals?)\b|[ ?.]*$|, please)"
        rf"|\b(?:{UNIT}) (?:are|is|make|in|equal)\b.{{0,20}}\b(?:{NUMBER} )?(?:{UNIT})\b"
        r"|\bhow (?:many|long) (?:[\w']+ ){0,6}(?:here|listed|list|in the (?:list|word)|is the (?:list|word))\b|\bhow many (?:\w+ ){0,4}:",
    ),
    (
        "classification",
        r"^(?:yes or no|true or false|right or wrong)\b|^(?:mark|label|tag|sort into|grade)\b[^.?!\n]{0,60}\bor\b",
    ),
    (
        "summarising",
        r"\bheadline for\b|\bwhat does it say\b|\bwhat(?:'s| is) (?:this|the) (?:\w+ )?(?:note|text|message|email|article|story|post)"
        r" (?:about|saying)\b|\bin (?:one|a single) (?:line|sentence):",
    ),
    (
        "closed_qa",
        r"^read (?:the|this)\b(?!.{0,80}\b(?:determine|decide|classify|whether|if)\b)|^(?:who|what|when|where|which|why|how)\b[^\n?]{0,80}\?\s*[\n:]?\s*[\"“].{40}",
    ),
    (
        "writing",
        rf"^(?:write|compose|draft|pen|expand the following outline)\b[^.?!\n]{{0,70}}\b(?:{WRITTEN}|facts|given information)\b",
    ),
    (
        "question_answering",
        r"^(?:explain|elaborate|expand on|explore|discuss|differentiate|considering)\b"
        r"|^what (?:information|would happen|is the difference|does it mean)\b",
    ),
    ("brainstorming", r"^(?:make|write|create|give(?: me)?|provide|generate) (?:an? )?(?:\w+ )?list\b|^brainstorm"),
    (
        "summarising",
        r"\bsummar(?:y|ies|i[sz]\w+)\b|\btl;?dr\b|\b(?:main|key|central) (?:ideas?|points?|takeaways?|message|argument)\b"
        r"|\bthe gist\b|\bcondense\b|\bin a nutshell\b|\bsum (?:it |this |up)|\bboil .{0,20}down\b"
        r"|\b(?:title|headline|name|subject line) (?:for|of|to) (?:this|the (?:following|given|article|text|passage|dish|email))"
        r"|\bgood title\b|\bwhat (?:is|was) (?:this|the) (?:text|article|passage|paragraph|story) about",
    ),
    (
        "classification",
        r"\bclassif(?:y|ication)\b|\bcategori[sz](?:e|ation)\b|\bsentiment\b|\btrue or false\b|\bodd one out\b"
        r"|\bmultiple[- ]choice\b|\bentail|\bhypothesis\b|\bnot possible to tell\b|\b(?:select|choose|pick) (?:the|one|from|a)\b"
        r"|\b(?:tell(?: me)?|say|identify|determine|decide|detect|judge|predict|check|state|indicate|find out|see|evaluate)"
        r" (?:whether|if)\b|\bwhich (?:category|categories|class|genres?|label|type|topic|of the following)\b"
        r"|\b(?:spam|positive|negative|neutral|formal|fact|satisfied|yes|agree|happy|sad|odd|even|declarative)(?:,|,? or) "
        r"(?:or )?(?:not|no|negative|positive|neutral|informal|opinion|unsatisfied|disagree|mixed|sad|happy|even|odd|\w+ive)\b"
        r"|\boutput (?:\"?\w+\"? or|1|yes|true|positive|entailment)|\bin what (?:genre|category|categories|class)"
        r"|\b(?:label|tag|rate|grade|rank|score) (?:the|this|each|these|it)\b|\bwhat (?:is|kind of|type of) [^.?!\n]{0,30}"
        r"(?:tone|intent|emotion|mood|label|category|genre|topic) (?:of|does|is)\b|\(a\)?\.?\)? .{1,80}\(b\)"
        r"|\ba[.)] .{1,80}[ \n]b[.)] |\bcategories (?:that )?this\b|\bpredict the (?:intent|label|category|class)\b",
    ),
    (
        "extraction",
        r"\bextract(?:ing)?\b|\bpull out\b|\bnamed entit|\bpos tags?\b|\btriplets?\b|\bkeywords?\b"
        rf"|{DO}(?:identify|find|list|highlight|underline|locate|pick out|detect|name|spot|get|return|copy|show)\b(?: me)?"
        rf"[^.?!\n]{{0,80}}\b(?:in|from|within|mentioned|of) (?:it|(?:the|this|these|each)(?: \w+)? ?{TEXT})\b"
        rf"|{DO}(?:identify|find|list|highlight|underline)\b the [^.?!\n]{{0,40}}\b(?:verbs?|nouns?|adjectives?|subjects?|"
        r"adverbs?|pronouns?|objects?|entities|tense|dates?|names?|bias(?:es)?|errors?|parts? of speech|phrases?|words?)\b"
        r"|\bwhat (?:is|are) the (?:name|date|price|amount|address|number|time|place)s? (?:mentioned|given|stated|in th)",
    ),
    (
        "mathematics",
        r"(?:^|[\s(=])[-\d.,]+\s*(?:[+*/×÷^=]|-\s)\s*[-\d.,(]+|\bword problem\b|\bequations?\b|\bpercent(?:age)? of\b"
        rf"|{DO}(?:calculate|compute|solve|prove|add up|multiply|divide|subtract|factor|integrate|differentiate \w+ ?\(|"
        r"simplify [\d(]|evaluate [\d(]|count|estimate the (?:number|sum))\b|\bhow (?:many|much|long|far|old)\b.*\d"
        r"|\d.*\bhow (?:many|much|long|far|old|fast|tall)\b|\b(?:square root|probability|average of|sum of|mean of|median"
        r"|derivative|integral|proportion|area of|perimeter|volume of|nth term|prime number|greatest common|remainder)\b"
        r"|\b(?:convert|how (?:many|much))\b[^.?!\n]{0,60}\b(?:to|in|into|are)\b[^.?!\n]{0,20}\b(?:celsius|fahrenheit|met(?:er|re)s?"
        r"|miles?|kilomet|kilograms?|pounds?|inch(?:es)?|hours?|minutes?|seconds?|grams?|lit(?:er|re)s?|cent(?:s|imet)|euros?)"
        rf"|\b(?:logic|brain) (?:puzzle|teaser)|{DO}(?:sort|order|arrange)\b[^.?!\n]{{0,50}}\bnumbers\b|\bnext (?:number|term)\b"
        r"|\b(?:larger|smaller|longer|bigger|greater|heavier|taller|older)[:,] ",
    ),
    (
        "rewriting",
        rf"{DO}(?:rewrite|re-?write|rephrase|paraphrase|reword|edit|proofread|simplify|shorten|lengthen|revise|polish|"
        r"formali[sz]e|capitali[sz]e|punctuate|concatenate|unscramble|alphabeti[sz]e|reverse|sort|rearrange|reorder|restate|"
        r"reformat|transform)\b"
        rf"|{DO}(?:correct|improve|fix|change|modify|convert|turn|expand|repeat|replace|remove|insert|add|adapt|adjust|"
        r"make|put|combine|merge|split|complete|continue|finish|fill in)\b[^.?!\n]{0,40}\b(?:sentences?|text|paragraph|passage"
        r"|statement|phrase|words?|letters?|email|essay|story|grammar|punctuation|spelling|tense|voice|case|tone|typos?"
        r"|mistakes?|errors?|response|blank|mask|list|order|uppercase|lowercase|polite|formal|shorter|sound|prefix|outline"
        r"|names?|commas?)\b|\bin (?:other words|reverse)\b|\bcorrect capitali|\bmore (?:polite|formal|concise|\w+ly)\b"
        r"|\bbackwards\b|\b(?:upper|lower|title) ?case\b|\balphabetical",
    ),
    (
        "constraints",
        r"\b(?:as|in|into|to|valid|output|return|using) (?:an? )?(?:json|yaml|csv|xml|markdown|(?:\w+ )?table|bullet points)\b"
        r"|\bjson (?:object|array|list)\b|\b(?:in|with|using|of) (?:exactly|at most|no more than|only|just) (?:\w+ ){1,2}"
        r"(?:words?|sentences?|letters?|lines?|characters?|paragraphs?|syllables?)\b|\bwithout using\b|\busing only\b"
        r"|\b(?:only|just) (?:the|one|a single|two|three) (?:words?|letters?|numbers?|name|result|answer)\b"
        r"|\b(?:begin|start|end)(?:s|ning|ing)? with the (?:letter|word)|\bcomma[- ]separated\b|\bseparated by\b"
        r"|\bone[- ]word\b|\bsingle word\b|\bin all caps\b|\bin (?:one|two|three|\d+) (?:words?|lines?)\b",
    ),
    (
        "closed_qa",
        r"\b(?:based on|according to|using|given|from) (?:only )?(?:the|this|that) (?:above |following |given |provided )?"
        rf"(?:{TEXT}|context|information|document|facts|table|excerpt|data)\b|^(?:context|passage|article|paragraph|document|text)\s*:"
        rf"|\bread (?:the|this) (?:following )?(?:{TEXT}|excerpt)|\b(?:question|questions) (?:about|on|from) (?:this|the) "
        r"|\banswer the (?:following )?question.{0,80}(?:passage|article|plot|context|text)|\bun-?answerable\b",
    ),
    (
        "chat",
        r"^(?:hi|hello|hey|yo|good (?:morning|evening|night|afternoon)|thanks?(?: you)?|thx|bye|goodbye|lol|haha|wow|cool"
        r"|nice|great|yes|no|yeah|yep|nope|ok|okay|sure|how are you|how('s| is) it going|what's up|nice to meet|see you"
        r"|welcome)\b.{0,60}$|^(?:who|what) are you\b|^what(?:'s| is) your\b|^(?:do|are|can|have|did|would|were) you\b.{0,70}\?$"
        r"|^tell me about yourself|^my name is|^i(?:'m| am|'ve| have| feel| felt| love| hate| just| miss| don't| think| was| got)\b"
        r"[^?]{0,120}$|^how (?:do|did) you (?:feel|like|know)|^what do you (?:think|like|do)\b",
    ),
    (
        "brainstorming",
        rf"\bbrainstorm|(?<!good )(?<!bad )\bideas?\b(?!\s+to\b)|\bcome up with\b|{DO}(?:list|name|give|suggest|provide|generate|write down|think of|"
        r"mention|make|create|recommend|propose|offer|show|tell|share|cite|produce|find|look for|search for)\b(?: me| us)? (?:an? (?:list|series|set|"
        r"few|couple|grocery list|example)|some|several|any|at least|up to|\d+|two|three|four|five|six|seven|eight|ten|"
        r"examples?|different|possible|other|all|as many|common|various|creative|unique|things|ways|synonyms|antonyms|names)\b"
        rf"|{DO}(?:list|name) (?!of\b)|\bwhat are (?:some|\d+|two|three|four|five|a few|the (?:best|top|most)|other|common)\b"
        r"|\bgive (?:me )?(?:an )?examples?\b|\bexamples of\b|\b(?:synonyms?|antonyms?) (?:for|of)\b|^(?:three|five|ten|some|\d+) "
        r"(?:\w+ ){0,3}(?:ways|ideas|names|examples|things|tips|words|reasons|facts)\b|\bwhat other\b|\bname for\b|\bnames of\b|\bi need (?:some|a few|\w+) (?:names|ideas|words|examples)",
    ),
    (
        "writing",
        rf"{DO}(?:write|compose|draft|create|craft|make up|generate|produce|build|construct|develop|design|tell(?: me)?|"
        rf"give(?: me)?|prepare|invent|form|pen|formulate|do|provide|come up with|continue|finish)\b[^.?!\n]{{0,70}}\b{WRITTEN}\b"
        rf"|{DO}(?:write|compose|draft|craft|invent|imagine|pen|narrate)\b|^(?:an?|the) (?:short )?{WRITTEN} (?:about|for|to|on|of)\b"
        r"|\b(?:describe|imagine|invent) (?:an? )?(?:fictional|imaginary|made-up)|\b(?:creative|descriptive) \w+ing\b"
        rf"|{DO}(?:create|generate|design|make|produce)\b|\ba (?:poem|haiku|story|joke|limerick|toast|song)\b",
    ),
    (
        "advice",
        r"\bhow (?:(?:can|should|do|could|would|might) (?:i|we|my|one|someone|a person|people|you)|to)\b(?! (?:describe|explain|"
        r"compare)\b)|\b(?:should|can|could|may|must) (?:i|we|my)\b|\b(?:plan|itinerary|schedule|routine|budget) (?:for|to|of)\b"
        r"|\brecommend|\bsuggest|\badvi[cs]e\b|\btips\b|\bsteps (?:to|for|of)\b|\bbest way\b|\brecipe\b|\bwhat (?:should|can|could|do) "
        r"(?:i|we|you)\b|\bwhich .{1,40}\bbest\b|\bi(?:'m| am| want| need|'d like|'ve| have)\b.*\?|\binstructions (?:for|on|to)\b"
        r"|\b(?:plan|organi[sz]e|prepare|make|create|design|write) (?:me )?(?:my|a|an|the) (?:\w+ )?(?:trip|day|week|meal|budget|itinerary|schedule|party|event|weekend|menu|workout|wedding)"
        r"|\bmy (?:boss|friend|mother|mum|mom|dad|son|daughter|girlfriend|boyfriend|wife|husband|colleague|neighbou?r|landlord)\b",
    ),
    (
        "question_answering",
        r"\?|^(?:what|who|whom|whose|when|where|why|how|which|is|are|was|were|do|does|did|can|could|will|would|has|have|had)\b"
        rf"|{DO}(?:explain|describe|define|compare|contrast|discuss|tell|elaborate|expand on|explore|outline|analy[sz]e|"
        r"differentiate|distinguish|clarify|interpret|illustrate|identify|state|evaluate|assess|give|provide|answer|find|examine"
        r"|teach|show|detail|consider|argue|justify|predict|determine|name|demonstrate|research|specify|infer|mention)\b",
    ),
)
_RULES = tuple((task, re.compile(pattern, re.MULTILINE)) for task, pattern in RULES)
_PASSAGE_QUESTION = re.compile(
    r"^(?:q(?:uestion)?:)?\s*(?:what|who|whom|whose|when|where|why|how|which|is|are|was|did|does|do)\b"
)


def task_of(prompt: str) -> str:
    """The type of the task that the prompt sets, a key of TASKS or OTHER."""
    said = instruction(prompt)
    found = next((task for task, rule in _RULES if rule.search(said)), OTHER)
    if found in ("question_answering", "advice", "chat", OTHER) and _asks_about_passage(prompt, said):
        return "closed_qa"
    return found


def instruction(prompt: str) -> str:
    """The opening without its courtesies, and the end of a longer prompt, in small letters."""
    text = prompt.strip().lower().replace("’", "'")
    head = text[:HEAD]
    if len(text) > HEAD:
        head += "\n" + text[-TAIL:] if len(text) >= HEAD + TAIL else text[HEAD:]
    return POLITE.sub("", head)


def _asks_about_passage(prompt: str, said: str) -> bool:
    """A question in one line, at either end, beside a passage in others."""
    lines = [line.strip() for line in prompt.lower().splitlines() if line.strip()]
    if len(lines) < 2 or len(prompt) < PASSAGE:
        return False
    asked = [
        line for line in (lines[0], lines[-1]) if line.rstrip("'\"").endswith("?") or _PASSAGE_QUESTION.match(line)
    ]
    return any(len(prompt) - len(line) >= PASSAGE for line in asked)


def tasks_of(prompts: Sequence[str]) -> list[str]:
    """The type of each prompt's task."""
    return [task_of(prompt) for prompt in prompts]
