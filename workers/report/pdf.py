"""One page of A4 for people who print: each knee, its heat map, its answer. Black on white; it names no patient."""

import io
from collections.abc import Sequence

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfgen.canvas import Canvas

from node.evidence import KLGrade
from node.finding import Finding
from workers.report import codes
from workers.report.content import Answer
from workers.report.layout.colours import Bytes
from workers.report.layout.explanation_page import facts
from workers.report.layout.page_frame import Layout
from workers.report.layout.pages import Page
from workers.report.layout.wording import LIMITS, SIDES, WARNING, Row, flags_of, ordered
from workers.report.provenance import ascii_only, code_item, local, object_uid, result
from workers.report.source import source_image

SERIES_NUMBER = 9050
WIDTH, HEIGHT, MARGIN = 210, 297, 15
"""Of the sheet, in millimetres."""
PICTURE = 58
BLOCK = 118
"""From one knee to the next."""
SHOWN = ("original", "overlay 50 %")
FACES = {False: "Helvetica", True: "Helvetica-Bold"}
"""Of those that every reader of PDF has; the words are ASCII."""
MOST_FACTS = 9


def encapsulated_pdf(answer: Answer, drawn: Sequence[Page]) -> Dataset:
    """The sheet as an Encapsulated PDF (PS3.3 A.45.1)."""
    header = answer.header
    made = result(
        header,
        answer.card,
        sop_class=EncapsulatedPDFStorage,
        sop_instance_uid=object_uid("PDF", answer.reading, answer.card),
        made_at=answer.made_at,
        utf8=False,
    )
    made.Modality, made.SeriesNumber = "DOC", SERIES_NUMBER
    made.SeriesDescription = "Genu KL page (AI, NOT FOR PRIMARY DIAGNOSIS)"
    made.ConversionType = "WSD"
    here = local(answer.made_at, header)
    made.AcquisitionDateTime = here.strftime("%Y%m%d%H%M%S%z")
    made.BurnedInAnnotation, made.RecognizableVisualFeatures = "NO", "NO"
    made.DocumentTitle = "Kellgren-Lawrence grade (AI, not for primary diagnosis)"
    made.ConceptNameCodeSequence = [code_item(codes.REPORT_TITLE)]
    made.SourceInstanceSequence = [source_image(header, same_places=False)]
    made.SourceInstanceSequence[0].pop("SpatialLocationsPreserved", None)
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    content = sheet(answer, drawn)
    made.EncapsulatedDocumentLength = len(content)
    made.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return made


def sheet(answer: Answer, drawn: Sequence[Page]) -> bytes:
    """The PDF, two knees to a page."""
    content = io.BytesIO()
    page = Sheet(content)
    for number, row in enumerate(ordered(answer.rows)):
        if number % 2 == 0:
            if number:
                page.turn()
            _head_and_foot(page)
        _knee(page, answer, row, drawn, 30 + BLOCK * (number % 2))
    page.save()
    return content.getvalue()


class Sheet:
    """A PDF to set type and boxes on, in millimetres from the top left corner."""

    def __init__(self, into: io.BytesIO) -> None:
        # "Invariant": no time of day and no random number in the file.
        self._canvas = Canvas(into, pagesize=A4, invariant=1, pageCompression=1)
        self._canvas.setTitle("Kellgren-Lawrence grade")
        self._canvas.setCreator("Genu")

    def turn(self) -> None:
        """Begin the next page."""
        self._canvas.showPage()

    def save(self) -> None:
        """Write it."""
        self._canvas.save()

    def text(self, x: float, y: float, words: str, size: float, *, bold: bool = False, grey: float = 0) -> None:
        """One line with its baseline at `y`."""
        self._canvas.setFont(FACES[bold], size)
        self._canvas.setFillGray(grey)
        self._canvas.drawString(x * mm, (HEIGHT - y) * mm, ascii_only(words))

    def paragraph(
        self, x: float, y: float, words: str, size: float, width: float, *, bold: bool = False, grey: float = 0
    ) -> float:
        """Lines no wider than `width`, the first baseline at `y`; returns the baseline that would follow."""
        for line in simpleSplit(ascii_only(words), FACES[bold], size, width * mm):
            self.text(x, y, line, size, bold=bold, grey=grey)
            y += size * 0.44
        return y

    def box(self, x: float, y: float, width: float, height: float, grey: float) -> None:
        """A filled rectangle with its top left corner at (x, y)."""
        self._canvas.setFillGray(grey)
        self._canvas.rect(x * mm, (HEIGHT - y - height) * mm, width * mm, height * mm, stroke=0, fill=1)

    def picture(self, pixels: Bytes, x: float, y: float, side: float) -> None:
        """A square picture."""
        image = ImageReader(Image.fromarray(pixels))
        self._canvas.drawImage(image, x * mm, (HEIGHT - y - side) * mm, side * mm, side * mm)


def _head_and_foot(page: Sheet) -> None:
    page.text(MARGIN, 18, "Genu", 16, bold=True)
    page.text(MARGIN + 18, 18, "Kellgren-Lawrence grade", 12, grey=0.35)
    page.text(WIDTH - MARGIN - 83, 18, WARNING, 11, bold=True)
    page.box(MARGIN, 21.5, WIDTH - 2 * MARGIN, 0.3, 0.5)
    page.paragraph(MARGIN, 280, LIMITS, 8.5, WIDTH - 2 * MARGIN, grey=0.35)


def _knee(page: Sheet, answer: Answer, row: Row, drawn: Sequence[Page], top: float) -> None:
    finding = row.finding
    page.text(MARGIN, top + 4, SIDES[finding.laterality], 14, bold=True)
    y = top + 8
    for flag in (flag for flag in flags_of(finding) if flag.red):
        y = page.paragraph(MARGIN, y + 2, f"! {flag.meaning}. {flag.advice}", 10, WIDTH - 2 * MARGIN, bold=True)
    x = float(MARGIN)
    for shown in (each for each in drawn if each.knee is finding and each.name.split(" ", 1)[1] in SHOWN):
        layout = Layout(shown.pixels.shape[0])
        page.picture(shown.pixels[layout.top : layout.foot], x, y, PICTURE)
        x += PICTURE + 3
    x = MARGIN + 2 * (PICTURE + 3) + 2
    if finding.grade is None or finding.probabilities is None:
        _refused(page, finding, x, y)
    else:
        _answer(page, finding, finding.grade, finding.probabilities, (x, y))
    y += PICTURE + 5
    told = facts(row, answer.card, answer.film.notes, local(answer.made_at, answer.header))
    for name, words in told[:MOST_FACTS]:
        page.text(MARGIN, y, name, 8.5, grey=0.35)
        y = page.paragraph(MARGIN + 24, y, words, 8.5, WIDTH - 2 * MARGIN - 24)


def _answer(page: Sheet, finding: Finding, grade: KLGrade, shares: Sequence[float], place: tuple[float, float]) -> None:
    x, y = place
    width = WIDTH - MARGIN - x
    page.text(x, y + 9, f"KL {grade}", 26, bold=True)
    name, features = codes.GRADE_NAMES[grade]
    end = page.paragraph(x, y + 15, f"{name}, {finding.confidence_text} sure", 11, width)
    end = page.paragraph(x, end, features, 8, width, grey=0.35)
    if finding.certainty is not None:
        told = f"{finding.certainty.remaining}. {finding.certainty.doubt}".strip().rstrip(".") + "."
        page.paragraph(x, end + 0.5, told, 8.5, width)
    for at, share in zip(KLGrade, shares, strict=True):
        line, mine = y + PICTURE - 23 + 4.7 * int(at), at == grade
        page.text(x, line + 2.7, f"KL {at}", 8, bold=mine)
        page.box(x + 9, line, width - 22, 3.4, 0.88)
        page.box(x + 9, line, max((width - 22) * share, 0.2), 3.4, 0.1 if mine else 0.55)
        page.text(x + width - 11, line + 2.7, f"{100 * share:.1f} %", 8, bold=mine)


def _refused(page: Sheet, finding: Finding, x: float, y: float) -> None:
    width = WIDTH - MARGIN - x
    page.text(x, y + 8, "Not graded", 18, bold=True)
    if finding.reason is not None:
        end = page.paragraph(x, y + 15, finding.reason.meaning + ".", 11, width)
        page.paragraph(x, end + 1, finding.reason.advice, 10, width, grey=0.35)
