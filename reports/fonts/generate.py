"""Makes the fonts of the reports from Inter 4.0 (Debian packages fonts-inter and python3-fonttools):
Latin, Greek and the symbols that reports use, as outlines without hints, in one family."""

from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

SOURCE = Path("/usr/share/fonts/opentype/inter")
CHARACTERS = [
    (0x0020, 0x007E), (0x00A0, 0x017F), (0x0391, 0x03C9), (0x2010, 0x2015), (0x2018, 0x201E),
    (0x2020, 0x2022), (0x2070, 0x2079), (0x2080, 0x2089), (0x2190, 0x2193), (0x2264, 0x2265),
]  # fmt: skip
SYMBOLS = "…‰′″⁻∂∆∑−√∞≈≠■□▲▼○●✓✗"
FEATURES = ["kern", "liga", "calt", "tnum", "ccmp", "locl", "mark", "mkmk"]

for weight in ("Regular", "SemiBold", "Italic"):
    font = TTFont(SOURCE / f"Inter-{weight}.otf", recalcTimestamp=False)
    options = subset.Options(hinting=False, desubroutinize=True, layout_features=FEATURES)
    subsetter = subset.Subsetter(options)
    wanted = [c for low, high in CHARACTERS for c in range(low, high + 1)] + [ord(c) for c in SYMBOLS]
    subsetter.populate(unicodes=wanted)
    subsetter.subset(font)
    style = "Bold" if weight == "SemiBold" else weight
    for name, text in ((1, "Inter"), (2, style), (4, f"Inter {style}"), (16, "Inter"), (17, style)):
        font["name"].setName(text, name, 3, 1, 0x409)
    font.save(Path(__file__).parent / f"Inter-{weight}.otf")
