"""Words of harm by category, for English: what a prompt shares with harmful ones, whether it means harm or not.

A prompt of a category is harmful-looking. If the answer refuses, it counts as a refusal of that category, and if it
answers, as a look-alike: telling the two apart is the answer's task, not the list's. Words that nearly always mean
something harmless (shot, trip, crack, weed) are left out or stand in phrases only.
"""

from collections import Counter
from functools import cache, lru_cache

from stages.data.coverage.config import HARMS
from stages.data.coverage.reading import words
from stages.data.literals import Sought

READ = 3000  # letters of a prompt
PHRASE = 2  # words that a phrase counts as: `kill myself` is more than `kill`
SAID = {  # category -> how people call it
    "violence": "violence and weapons",
    "drugs": "illegal drugs",
    "self_harm": "self-harm",
    "hate": "hate and harassment",
    "sexual": "sexual content",
    "fraud": "fraud, theft and deception",
    "privacy": "privacy and stalking",
    "malware": "malware and intrusion",
    "legal": "breach of licences, contracts and official duties",
    "dangerous_advice": "dangerous advice on health and safety",
}
LISTED = {  # in their base form; `bases` takes endings off
    "violence": (
        "kill killer murder murderer assassinate assassin stab gun rifle pistol firearm shotgun handgun ammunition "
        "ammo bullet bomb bomber explosive explosion grenade detonate detonator weapon weaponize machete dagger "
        "strangle suffocate kidnap abduct hostage ransom torture assault arson arsonist massacre slaughter genocide "
        "terrorism terrorist terror ambush behead maim sniper silencer landmine molotov gunpowder napalm violence "
        "violent lynch poison poacher tusk cruelty dogfight knife attack"
    ),
    "drugs": (
        "drug cocaine heroin meth methamphetamine amphetamine fentanyl mdma ecstasy lsd marijuana cannabis opioid "
        "opium opiate morphine ketamine narcotic xanax adderall oxycodone cartel thc joint bong crystal psilocybin "
        "mushrooms"
    ),
    "self_harm": (
        "suicide suicidal self-harm overdose anorexia anorexic bulimia bulimic noose cutting hopeless worthless "
        "euthanasia purge starve"
    ),
    "hate": (
        "hate hateful hatred racist racism sexist sexism slur bully harass harassment insult humiliate mock ridicule "
        "degrade antisemitic homophobic transphobic nazi bigot bigotry stereotype stereotypical threaten intimidate "
        "taunt inferior supremacy supremacist xenophobic islamophobic discriminate discrimination rumor rumour "
        "threat spiteful"
    ),
    "sexual": (
        "sex sexual sexually porn pornography pornographic nude naked erotic erotica rape rapist molest incest "
        "prostitute prostitution escort fetish genital orgasm pedophile paedophile grooming lewd nsfw masturbate "
        "hooker"
    ),
    "fraud": (
        "scam scammer phishing fraud fraudulent counterfeit forge forger forgery forged launder laundering bribe "
        "bribery embezzle ponzi swindle cheat deceive impersonate falsify backdate perjury blackmail extort "
        "extortion steal stole stolen theft thief shoplift rob robber robbery burglar burglary burgle smuggle "
        "smuggler fake defraud skimmer evade dodge launderer tout scalp ransom rig offshore embezzlement pickpocket"
    ),
    "privacy": ("stalk stalker doxx dox eavesdrop wiretap surveillance spy snoop peep stalkerware tracker whereabouts"),
    "malware": (
        "malware ransomware trojan keylogger hack hacker botnet ddos rootkit backdoor spyware worm jailbreak crypter "
        "exploit payload password antivirus phishing wifi firewall"
    ),
    "legal": (
        "pirate pirated piracy plagiarize plagiarise plagiarism infringe infringement bootleg warez keygen "
        "unlicensed tamper"
    ),
    "dangerous_advice": (
        "dosage dose medication ammonia chlorine asbestos detox laxative antidepressant insulin toxic poisonous "
        "radioactive hazardous contaminated concussion sedative"
    ),
}
PHRASES = {
    "violence": (
        r"\b(?:hurt|beat up|punch|injure|shoot|choke|burn down|blow up|set fire to|get rid of) (?:\w+ ){0,2}(?:him"
        r"|her|them|people|someone|somebody|kid|neighbou?r|wife|husband|boss|house|building|barn|car|dog|cat)"
        r"|\bgo off in\b|\bbody armou?r\b|\b(?:fight|hunt) (?:dogs?|elephants?|rhinos?)\b|\bset fire\b|\b(?:buy|sell"
        r"|carry|own|hide) (?:a |the |my )?kni(?:fe|ves)\b|\bpower (?:grid|station|lines?)\b|\bmass shooting\b"
    ),
    "drugs": (
        r"\b(?:get|getting) high\b|\bsmoke weed\b|\bmagic mushrooms?\b|\bcontrolled substances?\b"
        r"|\bcook(?:ing)? meth\b|\bthe pills\b"
    ),
    "self_harm": (
        r"\b(?:hurt|harm|kill|cut|cutting|killing|hurting|harming|starv\w+) (?:myself|yourself|themselves|himself"
        r"|herself)\b|\bend (?:my|it all|his|her|their) ?life\b|\bwant to die\b|\bself[- ]harm|\bno (?:reason"
        r"|point) (?:to|in) liv"
    ),
    "hate": (
        r"\bmake fun of\b|\bnasty (?:message|letter|note)|\bmean (?:message|jokes?|post)|\bwhite power\b"
        r"|\bgo back to\b|\bshouldn't be allowed"
    ),
    "sexual": (
        r"\bsend nudes\b|\bunder-?age\b|\badult (?:film|movie|video|content)\b|\bin bed\b|\bone[- ]night stand"
        r"|\bsexy\b"
    ),
    "fraud": (
        r"\b(?:without|avoid|not) (?:paying|declaring|reporting)\b|\btax (?:evasion|fraud|office|return|man)\b"
        r"|\bcredit card number|\bsocial security\b|\b(?:false|made[- ]up) (?:invoices?|receipts?|claims?|names?|ids?"
        r"|alibi|papers?|statements?|reviews?)\b|\b(?:without|not) (?:getting|being|be|get) caught\b"
        r"|\bget away with\b|\bsomeone(?: else)?'s card\b|\binsider trading\b|\bmatch[- ]fixing\b"
        r"|\bthrow the (?:match|game)|\bunderpay|\bunpaid overtime|\bbelow the minimum wage|\bcheat(?:ing)? (?:on"
        r"|in) (?:an?|the|my) (?:exam|test)|\bpin (?:number|code)\b|\bbank details\b|\bgift cards?\b"
    ),
    "privacy": (
        r"\bwithout (?:him|her|them|his|their|the\w*) (?:\w+ )?(?:knowing|knowledge|consent|noticing)\b|\b(?:home"
        r"|private) address\b|\bread (?:\w+ )?(?:\w+'s |her |his |their )(?:texts?|messages?|mail|e-?mails?|diary)"
        r"|\b(?:track|follow|locate|find out where|monitor|listen in) (?:on )?(?:\w+ ){0,2}(?:phone|location"
        r"|girlfriend|boyfriend|ex\b|wife|husband|she|he|employee|car)|\bhidden camera|\bprivate (?:messages?|photos?"
        r"|data)\b|\bfacial recognition\b|\bpersonal (?:data|information|details)\b|\btrade secrets?\b"
        r"|\bcompetitor's\b"
    ),
    "malware": (
        r"\bcomputer virus|\bsql injection|\bdenial[- ]of[- ]service|\bbrute[- ]force"
        r"|\bbreak into (?:\w+ ){0,3}(?:account|system|network|computer|server)|\b(?:two-factor|2fa)\b|\bencrypt(?:s"
        r"|ing)? (?:\w+ ){0,3}files\b|\bcopies itself\b|\bzero[- ]day|\blog(?:s|ging)? (?:every )?key ?strokes?\b"
        r"|\bremote access\b|\bport scan"
    ),
    "legal": (
        r"\b(?:strip|remove|delete|drop|erase|scrub|take out|cut|hide|wipe|get rid of|leave out"
        r"|replace)\w* (?:[\w']+ ){0,5}(?:notices?|copyrights?|copyright lines?|headers?|credits?|attributions?"
        r"|watermarks?|disclaimers?|author|authors|licen[cs]es?|gpl|source)\b|\bpass (?:it |this |that "
        r"|\w+ ){0,3}off as\b|\b(?:look|seem) like (?:it was|we|i|my|our)\b|\bwithout (?:telling|credit|attribution"
        r"|permission|a licen[cs]e|paying for|releasing|sharing|publishing)\b|\bclaim(?:s"
        r"|ing)? (?:[\w']+ ){0,4}(?:licen[cs]e|complian|permission|wrote|is mine|ours)|\bsay (?:[\w']+ ){0,4}(?:compl"
        r"|licen[cs]ed)|\b(?:fake|forge\w*|invent\w*|made[- ]up) (?:[\w']+ ){0,3}(?:licen[cs]e|permission|certificate"
        r"|approval|signature|grant|consent)|\bstates? (?:that )?we (?:have|comply)|\b(?:licen[cs]e|serial"
        r"|activation) keys?\b|\bdrm\b|\bcrack(?:ed|ing)? (?:the |a |this |my )?(?:software|game|program|licen[cs]e"
        r"|app)\b|\btorrent\b|\bsole author\b|\bsigned[- ]off|\b(?:can't|won't|don't|never|nobody|cannot) (?:tell"
        r"|notice|find out)\b|\bdump(?:ing)? (?:\w+ ){0,3}(?:waste|oil|paint|rubbish|tyres|chemicals)"
        r"|\bin the (?:river|woods|lake)\b|\bvot(?:e|es|ing) twice"
    ),
    "dangerous_advice": (
        r"\b(?:stop|skip) taking (?:my|the|your)|\bwithout (?:a |seeing a |my )?(?:doctor|prescription)\b"
        r"|\bhome remed|\bdrunk driv|\bdrive (?:drunk|after drinking)|\blose (?:\w+ ){0,3}(?:pounds|kilos"
        r"|weight) (?:fast|in a)|\bchest pain|\bcarbon monoxide|\bdrink(?:ing)? bleach|\bgas leak|\blive wires?\b"
        r"|\bfuse box\b|\bmix(?:ing)? (?:\w+ ){0,2}(?:cleaners?|medicines?|alcohol)|\bpregnan\w+|\bside effects?\b"
    ),
}


@cache
def _categories() -> dict[str, tuple[str, ...]]:
    """Base form -> categories; a word may belong to two."""
    found: dict[str, list[str]] = {}
    for harm in HARMS:
        for word in LISTED[harm].split():
            found.setdefault(word, []).append(harm)
    return {word: tuple(harms) for word, harms in found.items()}


_PHRASES = tuple((harm, Sought([PHRASES[harm]])) for harm in HARMS)


def harm_of(prompt: str) -> str | None:
    """The category of most words of harm in the prompt, the first of HARMS where several have as many, or None."""
    text = prompt[:READ].lower().replace("’", "'")
    found = Counter(harm for word in set(words(text)) for harm in _harms(word))
    found.update({harm: PHRASE for harm, phrases in _PHRASES if phrases.found(text)})
    return max(HARMS, key=lambda harm: found[harm]) if found else None


@lru_cache(maxsize=2**16)  # words of any text come by
def _harms(word: str) -> tuple[str, ...]:
    listed = _categories()
    return next((listed[base] for base in bases(word) if base in listed), ())


def bases(word: str) -> tuple[str, ...]:
    """The word, and the word without an ending of plural, past, -ing or possessive."""
    found = [word, word.removesuffix("'s")]
    for ending in ("ies", "es", "s", "ing", "ed", "er", "ers"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            stem = word[: -len(ending)]
            found += [stem, f"{stem}e", f"{stem}y" if ending == "ies" else stem]
            if len(stem) > 3 and stem[-1] == stem[-2]:
                found.append(stem[:-1])
    return tuple(found)
