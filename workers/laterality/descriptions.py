"""
The side that a description in words names: "Knie li. a.p.", "RT KNEE 2V", "Genou D face", "ginocchio dx".

Whole words of many languages count anywhere. Short ones mean something else as often as not ("RT" radiotherapy, "Dx"
diagnosis or Digital X-ray, "sin carga" without load, "L" lumbar, "sol" sun, "sag" sagittal), so they count beside a
word for the knee only, and those that belong to one language beside its own word alone. A description that names
both sides, or has "both" or "knees", gives "B".
"""

import re
import unicodedata

_STROKES = str.maketrans({"ø": "o", "ł": "l", "ı": "i", "æ": "ae", "ß": "ss", "đ": "d"})


def _plain(words: str) -> str:
    """Without case and accents, so that one spelling stands for all; Hangul is split into its letters."""
    apart = unicodedata.normalize("NFKD", words.casefold().translate(_STROKES))
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).translate(_STROKES)


def _words(text: str) -> frozenset[str]:
    return frozenset(_plain(text).split())


RIGHT = _words(
    """right rechts rechte rechter rechtes rechten rechterknie droit droite destra destro destri dextra dextrum dexter
    dextri derecha derecho dcha dcho direita direito hoger hogra hojre hoyre oikea oikean prawy prawa prawe prawego
    prava pravy prave praveho desno desni desna desnog jobb dreapta drept dreptului kanan phai dex
    правый правая правое правого прав праве права δεξια δεξι δεξιο δεξιου ימין اليمنى يمين 우측 오른쪽"""
)
LEFT = _words(
    """left links linke linker linkes linken gauche sinistra sinistro sinistri sinistrum sinister izquierda izquierdo
    izda izdo izq esquerda esquerdo vanster vanstra venstre vasen vasemman lewy lewa lewe lewego leva levy leve leveho
    levo lijevo lijevi lijeva lijevog stanga stang stangului kiri trai
    левый левая левое левого лев ліве ліва αριστερα αριστερο αριστερου שמאל اليسرى يسار 좌측 왼쪽"""
)
BOTH = _words(
    """both bilateral bilat bilaterally bilaterale bilaterales bilaterali bilaterais bilateraal bds beide beider
    beiden beidseits beids beidseitig beidseitige deux ambas ambos ambedue entrambe entrambi begge bada oba obou obu
    obydwa molemmat mindket iki knees knieen kniee genoux rodillas ginocchia joelhos knan knaer kneler polvet kolana
    kolena обоих оба обе обеих 양측"""
)
KNEES: dict[str, frozenset[str]] = {
    "en": _words("knee kneejoint"),
    "de": _words("knie kniegelenk kniegelenke kniegelenks kniee kniescheibe"),
    "fr": _words("genou genoux"),
    "it": _words("ginocchio ginocchia"),
    "es": _words("rodilla rodillas"),
    "pt": _words("joelho joelhos"),
    "la": _words("genu genus articulatio"),
    "nordic": _words("kna knan knaled knae kne kneledd knaeled polvi polven"),
    "pl": _words("kolano kolana kolanowy kolanowego"),
    "slavic": _words("koleno kolena koljeno koljena колено коленный коленного коліно"),
    "tr": _words("diz dizi dizin dizler"),
    "hu": _words("terd terdizulet"),
    "ro": _words("genunchi genunchiul genunchiului"),
}
SHORT: dict[str, dict[str, tuple[str, ...]]] = {
    "R": {
        "rt": tuple(KNEES),
        "re": ("de",),
        "dx": ("it", "la", "nordic"),
        "dext": ("la", "nordic"),
        "dr": ("ro",),
        "dch": ("es",),
        "der": ("es",),
        "dir": ("pt",),
        "hoj": ("nordic",),
        "sag": ("tr",),
        "pr": ("pl", "slavic"),
    },
    "L": {
        "lt": tuple(KNEES),
        "li": ("de",),
        "sx": ("it", "la"),
        "sin": ("it", "la", "nordic"),
        "sn": ("it", "nordic"),
        "gche": ("fr",),
        "iz": ("es",),
        "esq": ("pt",),
        "ven": ("nordic",),
        "sol": ("tr",),
        "bal": ("hu",),
        "lew": ("pl",),
    },
}
"""Short words, and the languages beside whose word for the knee they count, anywhere in the description."""
LETTERS: dict[str, dict[str, tuple[str, ...]]] = {
    "R": {"r": tuple(KNEES), "d": ("fr", "es", "pt", "it", "la"), "p": ("pl",), "h": ("nordic",)},
    "L": {"l": tuple(KNEES), "g": ("fr",), "i": ("es",), "e": ("pt",), "s": ("it", "la"), "v": ("nordic",)},
}
"""Single letters, which count next to the word for the knee; views and numbers between them do not separate them."""
SIGNS = {"R": "右", "L": "左", "B": "双両雙"}
"""Chinese and Japanese write without spaces: there a sign counts inside a word."""
GLUED = {"rknee": "R", "lknee": "L", "rtknee": "R", "ltknee": "L", "kneer": "R", "kneert": "R", "kneelt": "L"}
"""Some consoles leave the space out. "kneel" is a posture."""

BETWEEN = _words(
    """ap pa a p lat lateral standing stehend weight bearing wb wbs view views v jt joint joints gelenk face profil
    debout charge erect r l axial obl oblique front frontal xr dx cr x ray rx rtg 1 2 3 4 1v 2v 3v 4v ebenen
    ebene in 2e"""
)
"""Tokens between a letter and the knee that do not separate them."""

NOT_SIDES = re.compile(r"\brt\b(?=[\s_-]*(?:plan|dose|planning|therap|simul|struct|image|treat))")
_ELISION = re.compile(r"\b[dl]['’`]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def side_in(words: str) -> str:
    """The side that a description names: "R", "L", "B" for both, "" for none."""
    tokens = _tokens(words)
    named = {side for side in ("R", "L") if any(_names(side, tokens, at) for at in range(len(tokens)))}
    named |= {side for side, signs in SIGNS.items() if set(signs) & set(words)}
    if len(named) > 1 or any(token in BOTH for token in tokens):
        return "B"
    return named.pop() if named else ""


def _tokens(words: str) -> list[str]:
    """The words, without case, accents and punctuation."""
    plain = NOT_SIDES.sub(" ", _ELISION.sub(" ", _plain(_CAMEL.sub(" ", words))))
    return re.findall(r"[^\W_]+", plain)


def _names(side: str, tokens: list[str], at: int) -> bool:
    """Whether the token at that place names the side."""
    word = tokens[at]
    if word in (RIGHT if side == "R" else LEFT) or GLUED.get(word) == side:
        return True
    languages = {language for language, knees in KNEES.items() if knees & set(tokens)}
    if languages & set(SHORT[side].get(word, ())):
        # As the first token, "DX" and "CR" are names of the modality.
        return not (word == "dx" and at == 0)
    return any(_beside(tokens, at, KNEES[language]) for language in LETTERS[side].get(word, ()))


def _beside(tokens: list[str], at: int, knees: frozenset[str]) -> bool:
    """Whether nothing but views lies between the token and a word for the knee."""
    for step in (-1, 1):
        place = at + step
        while 0 <= place < len(tokens) and tokens[place] in BETWEEN:
            place += step
        if 0 <= place < len(tokens) and tokens[place] in knees:
            return True
    return False
