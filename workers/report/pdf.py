"""A printable PDF, A4: each knee with its heat map and grade. Black on white; it names no patient."""

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
from workers.report.content import ResultContent
from workers.report.layout.colours import Bytes
from workers.report.layout.explanation_page import explanation_facts
from workers.report.layout.page_frame import Layout
from workers.report.layout.pages import Page
from workers.report.layout.wording import KNEE_LABELS, LIMITS, WARNING, KneeContent, in_display_order, sorted_flags
from workers.report.provenance import ascii_only, code_item, object_uid, to_source_time_zone
from workers.report.source import source_image_item

SERIES_NUMBER = 9050
PAGE_WIDTH, PAGE_HEIGHT, MARGIN = 210, 297, 15
"""Of the page, in millimetres."""
PICTURE_SIZE = 58
KNEE_HEIGHT = 118
"""Millimetres from one knee to the next."""
SHOWN_PAGES = ("original", "overlay 50 %")
FONTS = {False: "Helvetica", True: "Helvetica-Bold"}
"""Standard fonts that every PDF reader has; the text is ASCII."""
MAX_FACTS = 9


def encapsulated_pdf(content: ResultContent, pages: Sequence[Page]) -> Dataset:
    """The document as an Encapsulated PDF (PS3.3 A.45.1)."""
    header = content.header
    ds = content.new_data_set(
        EncapsulatedPDFStorage,
        object_uid("PDF", content.reading, content.card),
        SERIES_NUMBER,
        "Genu KL page (AI, NOT FOR PRIMARY DIAGNOSIS)",
    )
    ds.Modality = "DOC"
    ds.ConversionType = "WSD"
    local_time = to_source_time_zone(content.made_at, header)
    ds.AcquisitionDateTime = local_time.strftime("%Y%m%d%H%M%S%z")
    ds.BurnedInAnnotation, ds.RecognizableVisualFeatures = "NO", "NO"
    ds.DocumentTitle = "Kellgren-Lawrence grade (AI, not for primary diagnosis)"
    ds.ConceptNameCodeSequence = [code_item(codes.REPORT_TITLE)]
    ds.SourceInstanceSequence = [source_image_item(header, same_grid=False)]
    ds.SourceInstanceSequence[0].pop("SpatialLocationsPreserved", None)
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    pdf = render_pdf(content, pages)
    ds.EncapsulatedDocumentLength = len(pdf)
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    return ds


def render_pdf(content: ResultContent, pages: Sequence[Page]) -> bytes:
    """The PDF file, two knees on a page."""
    stream = io.BytesIO()
    document = PdfDocument(stream)
    for number, knee in enumerate(in_display_order(content.knees)):
        if number % 2 == 0:
            if number:
                document.next_page()
            _draw_header_and_footer(document)
        _draw_knee(document, content, knee, pages, 30 + KNEE_HEIGHT * (number % 2))
    document.save()
    return stream.getvalue()


class PdfDocument:
    """A PDF document to draw on; positions are millimetres from the top left corner of the page."""

    def __init__(self, stream: io.BytesIO) -> None:
        # "Invariant": no time of day and no random number in the file.
        self._canvas = Canvas(stream, pagesize=A4, invariant=1, pageCompression=1)
        self._canvas.setTitle("Kellgren-Lawrence grade")
        self._canvas.setCreator("Genu")

    def next_page(self) -> None:
        """Begin the next page."""
        self._canvas.showPage()

    def save(self) -> None:
        """Finish the document."""
        self._canvas.save()

    def text(self, x: float, y: float, text: str, size: float, *, bold: bool = False, grey: float = 0) -> None:
        """One line with its baseline at `y`."""
        self._canvas.setFont(FONTS[bold], size)
        self._canvas.setFillGray(grey)
        self._canvas.drawString(x * mm, (PAGE_HEIGHT - y) * mm, ascii_only(text))

    def paragraph(
        self, x: float, y: float, text: str, size: float, width: float, *, bold: bool = False, grey: float = 0
    ) -> float:
        """Lines no wider than `width`, the first baseline at `y`; returns the baseline that would follow."""
        for line in simpleSplit(ascii_only(text), FONTS[bold], size, width * mm):
            self.text(x, y, line, size, bold=bold, grey=grey)
            y += size * 0.44
        return y

    def box(self, x: float, y: float, width: float, height: float, grey: float) -> None:
        """A filled rectangle with its top left corner at (x, y)."""
        self._canvas.setFillGray(grey)
        self._canvas.rect(x * mm, (PAGE_HEIGHT - y - height) * mm, width * mm, height * mm, stroke=0, fill=1)

    def picture(self, pixels: Bytes, x: float, y: float, side: float) -> None:
        """A square picture."""
        image = ImageReader(Image.fromarray(pixels))
        self._canvas.drawImage(image, x * mm, (PAGE_HEIGHT - y - side) * mm, side * mm, side * mm)


def _draw_header_and_footer(document: PdfDocument) -> None:
    document.text(MARGIN, 18, "Genu", 16, bold=True)
    document.text(MARGIN + 18, 18, "Kellgren-Lawrence grade", 12, grey=0.35)
    document.text(PAGE_WIDTH - MARGIN - 83, 18, WARNING, 11, bold=True)
    document.box(MARGIN, 21.5, PAGE_WIDTH - 2 * MARGIN, 0.3, 0.5)
    document.paragraph(MARGIN, 280, LIMITS, 8.5, PAGE_WIDTH - 2 * MARGIN, grey=0.35)


def _draw_knee(
    document: PdfDocument, content: ResultContent, knee: KneeContent, pages: Sequence[Page], top: float
) -> None:
    finding = knee.finding
    document.text(MARGIN, top + 4, KNEE_LABELS[finding.laterality], 14, bold=True)
    y = top + 8
    for flag in (flag for flag in sorted_flags(finding) if flag.red):
        y = document.paragraph(
            MARGIN, y + 2, f"! {flag.meaning}. {flag.advice}", 10, PAGE_WIDTH - 2 * MARGIN, bold=True
        )
    x = float(MARGIN)
    for shown in (page for page in pages if page.knee is finding and page.name.split(" ", 1)[1] in SHOWN_PAGES):
        layout = Layout(shown.pixels.shape[0])
        document.picture(shown.pixels[layout.top : layout.bottom], x, y, PICTURE_SIZE)
        x += PICTURE_SIZE + 3
    x = MARGIN + 2 * (PICTURE_SIZE + 3) + 2
    if finding.grade is None or finding.probabilities is None:
        _draw_refusal(document, finding, x, y)
    else:
        _draw_grade(document, finding, finding.grade, finding.probabilities, (x, y))
    y += PICTURE_SIZE + 5
    received_at = to_source_time_zone(content.made_at, content.header)
    facts = explanation_facts(knee, content.card, content.film.notes, received_at)
    for name, text in facts[:MAX_FACTS]:
        document.text(MARGIN, y, name, 8.5, grey=0.35)
        y = document.paragraph(MARGIN + 24, y, text, 8.5, PAGE_WIDTH - 2 * MARGIN - 24)


def _draw_grade(
    document: PdfDocument,
    finding: Finding,
    grade: KLGrade,
    probabilities: Sequence[float],
    position: tuple[float, float],
) -> None:
    x, y = position
    width = PAGE_WIDTH - MARGIN - x
    document.text(x, y + 9, f"KL {grade}", 26, bold=True)
    name, features = codes.GRADE_NAMES[grade]
    baseline = document.paragraph(x, y + 15, f"{name}, {finding.confidence_text} sure", 11, width)
    baseline = document.paragraph(x, baseline, features, 8, width, grey=0.35)
    if finding.certainty is not None:
        remaining = f"{finding.certainty.remaining}. {finding.certainty.doubt}".strip().rstrip(".") + "."
        document.paragraph(x, baseline + 0.5, remaining, 8.5, width)
    for grade_row, probability in zip(KLGrade, probabilities, strict=True):
        bar_top, is_reported = y + PICTURE_SIZE - 23 + 4.7 * int(grade_row), grade_row == grade
        document.text(x, bar_top + 2.7, f"KL {grade_row}", 8, bold=is_reported)
        document.box(x + 9, bar_top, width - 22, 3.4, 0.88)
        document.box(x + 9, bar_top, max((width - 22) * probability, 0.2), 3.4, 0.1 if is_reported else 0.55)
        document.text(x + width - 11, bar_top + 2.7, f"{100 * probability:.1f} %", 8, bold=is_reported)


def _draw_refusal(document: PdfDocument, finding: Finding, x: float, y: float) -> None:
    width = PAGE_WIDTH - MARGIN - x
    document.text(x, y + 8, "Not graded", 18, bold=True)
    if finding.reason is not None:
        baseline = document.paragraph(x, y + 15, finding.reason.meaning + ".", 11, width)
        document.paragraph(x, baseline + 1, finding.reason.advice, 10, width, grey=0.35)
