"""Words that tell a task type: (type, patterns ...), asked in this order. A type may have several rules.

Strong signs come first: the verb that opens a prompt counts for more than words in the middle of it.
"""

NUMBER = r"(?:[$£€]?\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|half|dozen)"
UNIT = (
    r"(?:celsius|fahrenheit|°?[cf]|(?:kilo|centi|milli)?met(?:er|re)s?|km|cm|mm|miles?|yards?|feet|foot|inch(?:es)?"
    r"|(?:kilo|milli)?grams?|kg|pounds?|ounces?|tonnes?|hours?|minutes?|seconds?|days?|weeks?|months?|years?|(?:milli"
    r"|centi)?lit(?:er|re)s?|ml|cups?|gallons?|dollars?|cents?|euros?|pence|percent|decades?|centuries|dozens?)"
)
LANGUAGE = (
    r"(?:english|french|german|spanish|italian|portuguese|dutch|swedish|russian|chinese|mandarin|japanese|korean"
    r"|arabic|hindi|hebrew|latin|greek|turkish|polish|czech|danish|norwegian|finnish|ukrainian|vietnamese|persian"
    r"|welsh|urdu|lao|thai|bengali|tamil|romanian|hungarian|indonesian|swahili)"
)
TEXT = (
    r"(?:text|passage|paragraph|article|story|sentence|statement|e-?mail|review|dialogue|conversation|letter|document"
    r"|tweet|post|note|excerpt|message|phrase|poem|paper|abstract|information|quote)s?"
)
WRITTEN = (
    r"(?:stor(?:y|ies)|poems?|songs?|lyrics|essays?|letters?|e-?mails?|haikus?|limericks?|dialogues?|conversations?"
    r"|speech(?:es)?|toasts?|paragraphs?|articles?|blogs?|posts?|tweets?|reviews?|slogans?|taglines?|jokes?|captions?"
    r"|scripts?|scenes?|reports?|ads?|advertisements?|press|announcements?|messages?|notes?|sentences?|descriptions?"
    r"|bio|biograph\w+|profiles?|resumes?|cvs?|plots?|characters?|rhymes?|riddles?|questions?|surveys?|quiz|text"
    r"|invitations?|proposals?|introductions?|conclusions?|memos?|repl(?:ies|y)|responses?|cover|fairy|fables?"
    r"|metaphors?|similes?|phrases?|verses?|monologues?|quotes?|reminders?|outlines?|user stor\w+|content|analysis)"
)
CODE = (
    r"(?:python|java(?:script)?|typescript|node\.?js|c\+\+|c#|rust|golang|ruby|php|perl|sql\w*|html|css|regex"
    r"|regular expression|bash|shell|powershell|pandas|numpy|django|react|latex|excel formula|algorithms?"
    r"|pseudo-?code|source code|code snippet|apis?|linked list|binary tree|unit tests?|dockerfile|makefile|cron|git)"
)
# What leads up to a verb that orders something: a beginning, the end of a clause, or a word.
DO = r"(?:^|[.!?:;,]\s*|\b(?:to|and|then|please|should|must|you|me|now)\s+)(?:please |briefly |quickly |now |also )?"
REST = r"[^.?!\n]{0,70}"  # of the same sentence
SELF = r"(?:i|we|my|our|one|someone|a person|people|you)"

BOILERPLATE = (  # what instruction sets put around a task
    r"^(?:given the task definition|teacher: ?now, understand the problem)[^.\n]*?(?:[.:]|$)",
    r"\bsolve (?:this instance|the new input case)\b:?",
    r"^(?:detailed )?(?:instructions?|definition|teacher|student|problem|task|q|question) ?:",
    r"\b(?:in this task,? (?:you(?:'re| are| will be) )?|you(?:'re| are| will be) given .{1,120}?[.,] (?=your|you))",
)
COURTESY = (
    r"^(?:(?:please|kindly|hi|hey|hello|ok(?:ay)?|so|now|well|sorry|thanks|help me(?: to)?|let's|(?:can|could|would"
    r"|will) you(?: please)?(?: help me(?: to)?)?|i(?:'d| would) like(?: for)? you to|i (?:want|need) you to"
    r"|you (?:need to|should|must|have to)|(?:your|the) (?:task|job|goal) is to)[\s,!.]+)+",
)
ASKING = (
    r"\?",
    r"^(?:what|who|whom|whose|when|where|which|why|how|is|are|was|were|do|does|did|can|could|should|would|will)\b",
    r"\b(?:you|your|please|following|given|below|above|this|these|each|options?|choose|select|answer)\b",
    r"^[a-z-]+ (?:me |us )?(?:the|an?|some|any|each|all|all the|about|how|why|if|whether|in|into|\d+|two|three|four"
    r"|five)\b",
    r":$",
)

RULES: tuple[tuple[str, ...], ...] = (
    (
        "role_play",
        r"^(?:act|behave|respond|reply|answer|talk|speak|pretend|imagine)(?: to me)? (?:as if you|like you"
        r"|as though you)",
        r"^(?:act|behave|respond|reply|pretend|imagine) (?:as an? |you(?:'re| are)|to be|that you)",
        r"\brole-?play|\bplay the (?:role|part) of|\bstay in character|^from now on,? you|\bact as (?:an?|the|my)\b",
        r"^you are (?:now )?(?:an?|my|called|named) (?!(?:helpful )?(?:ai |language )?(?:assistant"
        r"|model)\b)(?:[\w'-]+ ){0,4}\w+(?:[.,;]| who| named| called| from)",
    ),
    (
        "translation",
        r"\btranslat(?:e|ions?|ing)\b",
        rf"\b(?:write|say|put|convert|render)\b.{{0,60}}\b(?:in|into|to) (?:the )?{LANGUAGE}\b",
        rf"\bhow (?:do|would|to|can) (?:you |i )?(?:say|write) .{{1,60}} in {LANGUAGE}",
        rf"\bwhat (?:is|does) .{{1,60}}(?:mean )?in {LANGUAGE}\??$",
    ),
    ("constraints", r"\bjson\b", r"\b(?:begin|start|end|finish)(?:ing)? (?:your|the|each|every) \w+ with\b"),
    ("rewriting", r"^(?:re-?write|rephrase|paraphrase|reword|proofread)\b"),
    (
        "classification",
        r"^(?:classify|categori[sz]e|label|tag|grade|rate|rank|judge|detect|decide|evaluate) (?!.{0,20}\bidea)",
        rf"{DO}(?:classify|categori[sz]e)\b",
        r"\b(?:tell(?: me)?|say|identify|determine|decide|detect|judge|predict|check|state|indicate"
        r"|answer) (?:whether|if)\b",
        r"^(?:yes or no|true or false|right or wrong)\b|^mark\b[^.?!\n]{0,60}\bor\b|\bdoes the (?:information"
        r"|evidence)\b",
        r"\b(?:yes|true|good|support|satisfied|positive|negative|correct|ethical)['\"]? (?:or|and) ['\"]?(?:no|not"
        r"|false|bad|unsupport|unsatisfied|positive|negative|neutral|incorrect)\b",
        r"\b(?:sentiment|part of speech|relevant or not|spam or|lexical categor\w+|toxic)\b(?!.{0,20}\b(?:analysis"
        r"|ensemble)\b)",
        r"\boptions?:|\bselect from|\bpick (?:your answer|one) from|\(a\)?\.?\)? .{1,80}\(b\)|\bmultiple[- ]choice\b",
        r"\b(?:is|are|was) (?:this|the|that)(?: \w+){0,3} (?:positive|negative|correct|true|neutral|sarcastic|spam"
        r"|offensive|false)\b",
    ),
    (
        "rewriting",
        r"^(?:re-?write|rephrase|paraphrase|reword|proofread|shorten|capitali[sz]e|punctuate|reverse|alphabeti[sz]e"
        r"|redact|formali[sz]e|restate|unscramble|concatenate|rearrange|reorder|replace|fill in|correct|edit|revise"
        r"|polish)\b",
        rf"^(?:arrange|complete|expand|convert|change|modify|combine|add|insert|remove|use)\b{REST}\b(?:{TEXT}|words?"
        rf"|punctuation)\b(?! into an)",
        r"\b(?:into|in|to|as) (?:all )?(?:capitals|capital letters|small letters|block letters)\b"
        r"|\bcapital first letters?",
        r"\b(?:turn|make|put|change|join|flip|transform) (?:this|these|it|the two|the following|the order|each)\b",
        r"\b(?:alphabetical|ascending|descending|opposite|reverse|dictionary) order\b|\b(?:from a to z|a-z order)\b",
        r"\b(?:low(?:est)?|small(?:est)?|high(?:est)?|large(?:st)?|big(?:gest)?) to (?:high|large|low|small|big)",
        rf"\b(?:repeat|say) (?:this|the) {TEXT}\b|\bcapitali[sz]e it\b|\bcorrect capitali|\b(?:re-?written"
        rf"|rewrite) in\b",
        rf"\bconvert (?:it|this|the (?:given )?{TEXT}) (?:to|into) (?:an?|the) \w+",
    ),
    (
        "mathematics",
        r"\b\d+ ?(?:x|times|plus|minus|divided by) ?\d|^(?:work out|calculate|compute|solve|multiply|divide|count)\b",
        r"^add (?:[\d(]|up|the numbers)|^(?:answer|solv\w+|do) .{0,30}\bmath(?:s|ematics"
        r"|ematical)? (?:word )?problem\b",
        rf"^(?=.*\b{NUMBER}\b.+\b{NUMBER}\b)(?=.*\?).*\b(?:how (?:many|much|long|far|old)|what (?:remains|is left)"
        r"|in total|altogether|what is one|is (?:that|there)|are (?:there|left))\b",
        rf"\b(?:express|change|convert(?:ing)?|turn|give|what(?:'s| is)|how (?:many"
        rf"|much)) .{{0,30}}\b{NUMBER} ?{UNIT} (?:in|to|into|as)\b",
        rf"\bhow many {UNIT} (?:are|is|make|in|equal)\b|\bconvert\b{REST}\b{UNIT} (?:to|into) {UNIT}\b",
        r"\bhow (?:many|long) (?:[\w']+ ){0,6}(?:here|listed|list|in the (?:list|word)|is the (?:list|word))\b"
        r"|\bhow many [\w ]{1,30}:",
    ),
    (
        "code",
        r"```|\bdef \w+\(|#include\b|\bpublic static\b|\bselect .{1,80} from \w+|console\.log|^import \w+$|\bcv2\.",
        rf"\b(?:in|using|with|on|the) {CODE}\b(?! (?:behind|of))",
        rf"{DO}(?:write|create|implement|develop|design|build|generate|construct|code|debug|refactor|optimi[sz]e|fix"
        rf"|give|show|edit|describe|explain|suggest|make|improve|parse)\b[^.?!\n]{{0,60}}\b(?:{CODE}|functions?"
        rf"|programs?|code|quer(?:y|ies)|command line|syntax|circuit)\b(?! for (?:kids|children)| letter)",
        rf"\b(?:how (?:do|can|to|would)|why (?:does|is))\b[^.?!\n]{{0,80}}\b{CODE}\b",
    ),
    (
        "summarising",
        r"\bsummari[sz](?:e|ing)\b|\b(?:give|write|provide|create|short|brief)(?: \w+){0,3} summary\b(?! of (?:your"
        r"|my))",
        r"\btl;?dr\b|\b(?:main|key|central) (?:ideas?|takeaways?|message|argument) (?:of|in|from)\b|\bthe gist\b"
        r"|\bcondense\b",
        r"\bin a nutshell\b|\bboil .{0,20}down\b|\bheadline for\b|\bwhat does it say\b|\bin (?:one|a single) (?:line"
        r"|sentence):",
        rf"\b(?:title|headline|subject line) (?:for|of|to) (?:this|the) (?:\w+ )?{TEXT}\b|\bgood title\b",
        rf"\bwhat(?:'s| is| was) (?:this|the) (?:\w+ )?{TEXT} (?:about|saying)\b",
        r"\b(?:name|title) for (?:this|the (?:following )?)(?:dish|recipe|article|story)|\bname for the dish\b",
    ),
    (
        "extraction",
        r"\bextract(?:ing)?\b|\bpull out\b|\bnamed entit|\bpos tags?\b|\btriplets?\b|\bkeywords? (?:from|in|of)\b",
        rf"^(?:identify|find|list|highlight|underline|locate|pick out|name|spot|get|copy|show)\b{REST}\b(?:in|from"
        rf"|within|mentioned|of) (?:it|(?:the|this|these|each)(?: \w+)? ?{TEXT})\b",
        r"^(?:identify|find|list|highlight|underline)\b the [^.?!\n]{0,40}\b(?:verbs?|nouns?|adjectives?|subjects?"
        r"|adverbs?|pronouns?|objects?|entities|tense|dates?|names?|bias(?:es)?|errors?|parts? of speech|phrases?)\b",
        rf"\b(?:sentences?|text|passage) (?:below|above) to identify\b|\ball the \w+ (?:\w+ )?(?:in|from) the {TEXT}",
    ),
    (
        "brainstorming",
        r"^(?:make|write|create|give(?: me)?|provide|generate) (?:an? )?(?:\w+ )?list\b|\bbrainstorm",
        r"^(?:list|name|state|think of) (?:me |us )?(?:an?|some|\d+|two|three|four|five|six|seven|eight|ten|the|all"
        r"|different|any)\b",
    ),
    (
        "writing",
        rf"^(?:write|compose|draft|pen|craft|come up with|tell me|make up|invent|build|reply to)\b{REST}\b{WRITTEN}\b",
        rf"{DO}(?:write|compose|draft|craft|create|creating|build|generate|produce)\b{REST}\b{WRITTEN}\b",
        rf"\b(?:compose|turn|expand) .{{0,30}}into an? .{{0,30}}{WRITTEN}\b|\b(?:tweet|conversation|story) based on\b",
        rf"\bwhat's a {WRITTEN} that uses\b|\bgive me a[\w -]{{0,30}} (?:e-?mail|letter|story|poem|joke)\b"
        rf"|\bby sending an email\b",
    ),
    (
        "question_answering",
        r"^(?:explain|elaborate|expand on|explore|discuss|differentiate|considering|reflect on|compare|define"
        r"|describe (?:how|the))\b",
        r"^what (?:information|would happen|if|is the difference|does it mean|could happen)\b|^(?:why|who|when"
        r"|where)\b",
    ),
    (
        "closed_qa",
        rf"\b(?:based on|according to|using|from) (?:only )?(?:the|this|that) (?:above |following |given "
        rf"|provided )?{TEXT}\b",
        r"^(?:context|passage|article|paragraph|document|text)\s*:|^read (?:the|this)\b",
        r"\b(?:question|questions) (?:about|on|from|related to) (?:this|the) |\bun-?answerable\b|\banswer based on\b",
        r"\banswer the (?:following )?questions?.{0,80}(?:passage|article|plot|context|text|paragraph)",
        r"^(?:who|what|when|where|which|why|how)\b[^\n?]{0,80}\?\s*[\n:]?\s*[\"“].{40}",
    ),
    (
        "mathematics",
        r"(?:^|[\s(=])[-\d.,]+\s*(?:[+*/×÷^=]|-\s)\s*[-\d.,(]+|\b(?:word|logic|brain) (?:problem|puzzle|teaser)"
        r"|\bequations?\b",
        rf"{DO}(?:calculate|compute|prove|integrate|factor)\b|\b(?:simplify|evaluate|find) [\d(]|\bfind the (?:total"
        rf"|value|sum)\b",
        r"\bhow (?:many|much|long|far|old)\b.*\d.*\?|\d.*\bhow (?:many|much|long|far|old|fast|tall)\b.*\?",
        r"\b(?:square root|probability|average of|sum of|median|derivative|integral|proportion of|percentage of"
        r"|area of|perimeter|volume of|nth term|prime number|greatest common|remainder|sequence of numbers"
        r"|next (?:number|term))\b",
        r"\b(?:larger|smaller|bigger|greater|heavier|taller|older|longer)[:,] ",
    ),
    (
        "classification",
        r"\bclassif(?:y|ication)\b|\btrue or false\b|\bodd one out\b|\bentail|\bhypothesis\b|\bnot possible to tell\b",
        r"\b(?:select|choose|pick) (?:the|one|from|a) (?!name|topic)|\bin what (?:genre|category|categories|class)",
        r"\bwhich (?:category|categories|class|genres?|label|type|topic|of the following)\b"
        r"|\bcategories (?:that )?this\b",
        r"\bwhat (?:is|kind of|type of|category) [^.?!\n]{0,30}(?:tone|intent|emotion|mood|label|category|genre"
        r"|topic) (?:of|does|is)\b",
        r"\boutput (?:\"?\w+\"? or|1|yes|true|positive|entailment)|\ba[.)] .{1,80}[ \n]b[.)] |\bis the (?:claim"
        r"|statement|answer)\b",
        r"\bpredict the (?:intent|label|category|class)\b|\bwhat category\b|\bwhich one (?:is|of)\b",
    ),
    (
        "rewriting",
        rf"{DO}(?:rewrite|rephrase|paraphrase|reword|proofread|simplify|reverse|sort|rearrange|reorder|transform)\b",
        rf"{DO}(?:correct|improve|fix|change|modify|convert|turn|expand|repeat|replace|remove|insert|adapt|adjust"
        rf"|make|put"
        r"|combine|merge|split|complete|continue|finish|fill in)\b[^.?!\n]{0,40}\b(?:sentences?|text|paragraph"
        r"|passage|email|statement|phrase|grammar|punctuation|spelling|tense|voice|tone|typos?|mistakes?|errors?"
        r"|response|blank|mask|uppercase|lowercase|polite|formal|shorter|prefix|placeholders?|commas?)\b",
        r"\bin other words\b|\bmore (?:polite|formal|concise|professional|casual)\b|\bbackwards\b|\b(?:upper|lower"
        r"|title) ?case\b",
        r"\b\d+% more\b|\btone of\b",
    ),
    (
        "constraints",
        r"\b(?:as|in|into|valid|output|return|using) (?:an? )?(?:yaml|csv|xml|markdown|(?:\w+ )?table|bullet points)\b",
        r"\b(?:in|with|using|of) (?:exactly|at most|no more than|only|just) (?:\w+ ){1,2}(?:words?|sentences?"
        r"|letters?|lines?|characters?|paragraphs?|syllables?)\b|\bwithout using\b|\busing only\b|\bin all caps\b",
        r"\b(?:only|just) (?:the|one|a single|two|three) (?:words?|letters?|numbers?|name|result|answer)\b",
        r"\b(?:begin|start|end)(?:s|ning|ing)? with the (?:letter|word)|\b(?:comma[- ]separated|separated by"
        r"|one[- ]word|single word)\b",
        r"\bin (?:one|two|three|\d+) (?:words?|lines?)\b",
    ),
    (
        "chat",
        r"^(?:hi|hello|hey|yo|good (?:morning|evening|night|afternoon)|thanks?(?: you)?|thx|bye|goodbye|lol|haha|wow"
        r"|cool|nice|great|yes|no|yeah|yep|nope|ok|okay|sure|how are you|how('s| is) it going|what's up|nice to meet"
        r"|see you|welcome)\b.{0,60}\Z|^(?:who|what) are you\b|^what(?:'s| is) your (?!opinion)"
        r"|^tell me about yourself|^my name is",
        r"^(?:do|are|have|did|were) you\b.{0,70}\Z|^how (?:do|did) you (?:feel|like|know)\b|^what do you (?:think"
        r"|like)\b",
        r"^i(?:'m| am|'ve| have| feel| felt| love| hate| just| miss| don't| think| was| got)\b[^?]{0,120}\Z",
    ),
    (
        "advice",
        rf"\b(?:any|some|give me) (?:suggestions|advice|tips)\b|\bwhat should {SELF}\b|^how (?:can|should|do"
        rf"|could) (?:i|we)\b",
    ),
    (
        "brainstorming",
        r"(?<!good )(?<!bad )\bideas?\b(?! to\b)|\bcome up with\b|\b(?:give|some|more|other) examples?\b"
        r"|\bexamples of\b",
        rf"{DO}(?:list|name|give|suggest|provide|generate|write down|mention|recommend|propose|offer|share|cite"
        rf"|look for|find)\b"
        r"(?: me| us)? (?:an? (?:list|series|set|few|couple|example)|some|several|any|at least|up to|\d+|two|three"
        r"|four|five|six|seven|eight|ten|examples?|different|possible|other|as many|common|various|creative|unique"
        r"|synonyms|antonyms|names)\b",
        r"\bwhat are (?:some|\d+|two|three|four|five|a few|other|common)\b|\bwhat other\b|\bnames? (?:for|of) (?:a|an"
        r"|my|some)\b",
        r"\b(?:synonyms?|antonyms?) (?:for|of)\b|^(?:three|five|ten|some|\d+) (?:\w+ ){0,3}(?:ways|ideas|names"
        r"|examples|tips|words|reasons)\b",
        r"\bi need (?:some|a few|the|\w+) (?:names|ideas|words|examples)\b|^(?:list|name)\b",
    ),
    (
        "advice",
        rf"\bhow (?:(?:can|should|do|could|would|might) {SELF}|to)\b(?! (?:describe|explain|compare|define)\b)"
        rf"|\b(?:should|may) (?:i|we)\b",
        r"\b(?:plan|itinerary|schedule|routine|budget) (?:for|to|of)\b|\brecommend|\badvi[cs]e\b|\btips\b"
        r"|\bsteps (?:to|for)\b",
        r"\bbest way\b|\brecipe for\b|\bwhat (?:should|can|could) (?:i|we|you)\b|\bwhich .{1,40}\bbest\b"
        r"|\bwhat are the (?:best|most)\b",
        r"\bi(?:'m| am| want| need|'d like|'ve| have)\b.*\?|\binstructions (?:for|on|to)\b|\bdirections (?:to|from"
        r"|between)\b",
        r"\b(?:plan|organi[sz]e|prepare|make|create|design) (?:me )?(?:my|a|an|the) (?:\w+ )?(?:trip|day|week|meal"
        r"|budget|itinerary|schedule|party|event|weekend|menu|workout|wedding)\b",
        r"\bmy (?:boss|friend|mother|mum|mom|dad|son|daughter|girlfriend|boyfriend|wife|husband|colleague|neighbou?r"
        r"|landlord)\b",
    ),
    (
        "writing",
        rf"{DO}(?:design|construct|develop|craft|make up|tell(?: me)?|give(?: me)?|prepare|invent|form|formulate"
        rf"|provide|share|continue|finish|come up with)\b{REST}\b{WRITTEN}\b|{DO}(?:write|compose|draft|invent"
        rf"|imagine|narrate)\b",
        rf"^(?:an?|the) (?:short )?{WRITTEN} (?:about|for|to|on|of)\b|\b(?:describe|imagine"
        rf"|invent) (?:an? )?(?:fictional|imaginary)",
        r"^(?:create|generate|design|make|produce)\b|\ba (?:poem|haiku|story|joke|limerick|toast|song)\b"
        r"|\bcreate its description\b",
    ),
    (
        "question_answering",
        r"\?|^(?:what|which|how|is|are|was|were|do|does|did|can|could|will|would|has|have|had|should)\b|\bmeaning of\b",
        rf"{DO}(?:explain|describe|define|compare|contrast|discuss|tell|elaborate|expand on|explore|outline"
        rf"|analy[sz]e|clarify"
        r"|interpret|illustrate|identify|state|evaluate|assess|give|provide|answer|find|examine|teach|show|detail"
        r"|argue|justify|predict|determine|name|demonstrate|research|specify|infer|mention|say)\b",
    ),
)
