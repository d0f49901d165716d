"""Tables in Kaggle's format, small or with rendered faces, and a stand-in for Kaggle's download service on this machine."""

import contextlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from facekp.keypoints import COLUMNS, MEAN_FACE


def random_images(count: int, seed: int = 0) -> np.ndarray:
    "Return images of noise: uint8 [N,96,96], all different."
    return np.random.default_rng(seed).integers(0, 256, (count, 96, 96), dtype=np.uint8)


def table_cells(count: int = 4, seed: int = 0) -> list[dict[str, str]]:
    "Return the cells of a training.csv row by row; every second row has the second source's four points."
    rows = []
    for index, image in enumerate(random_images(count, seed)):
        points = np.round(MEAN_FACE + index / 8, 3)
        if index % 2:
            points[[2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13]] = np.nan
        cells = {column: "" if np.isnan(value) else f"{value:.9g}" for column, value in zip(COLUMNS, points.ravel())}
        rows.append({**cells, "Image": " ".join(map(str, image.ravel().tolist()))})
    return rows


def table_text(rows: list[dict[str, str]], columns: list[str] | None = None) -> str:
    "Write rows as CSV."
    columns = columns or list(rows[0])
    return "\n".join([",".join(columns), *(",".join(row[column] for column in columns) for row in rows)]) + "\n"


def write_rendered_table(labels: Path, target: Path, cut: int = 2284) -> None:
    """Write a training.csv with the labels of a table and a rendered face for each row.

    Gaps are filled by ridge regression for rendering only. From row `cut` on, nose tip and bottom lip are moved back to the convention of the first annotators.
    """
    import pandas as pd

    from facekp.impute import fill_ridge
    from facekp.synthetic.appearance import sample_appearance
    from facekp.synthetic.renderer import render_face

    table = pd.read_csv(labels)[list(COLUMNS)]
    shapes = table.to_numpy(np.float32).reshape(-1, 15, 2)
    shapes[cut:, 10, 1] -= 7.8
    shapes[cut:, 14, 1] += 5.1
    shapes = np.clip(fill_ridge(shapes, shapes[:cut]), 1, 94)
    generators = [np.random.default_rng([7, row]) for row in range(len(shapes))]
    images = [render_face(shape, sample_appearance(rng), rng) for shape, rng in zip(shapes, generators)]
    table.assign(Image=[" ".join(map(str, image.ravel().tolist())) for image in images]).to_csv(target, index=False)


def zip_bytes(members: dict[str, bytes | str]) -> bytes:
    "Pack members into a zip."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def competition_zip(count: int = 4) -> bytes:
    "Pack a small competition as Kaggle does: zips and a table within a zip."
    tests = table_cells(2, seed=9)
    test_text = "ImageId,Image\n" + "".join(f"{index},{row['Image']}\n" for index, row in enumerate(tests, 1))
    lookup = "RowId,ImageId,FeatureName,Location\n1,1,nose_tip_x,\n2,1,nose_tip_y,\n3,2,nose_tip_x,\n"
    return zip_bytes({
        "training.zip": zip_bytes({"training.csv": table_text(table_cells(count))}), "test.zip": zip_bytes({"test.csv": test_text}),
        "IdLookupTable.csv": lookup, "SampleSubmission.csv": "RowId,Location\n1,0\n",
        "filling": np.random.default_rng(0).bytes(3 << 20)})  # kagglehub stores a download in steps of 1 MiB


class Service(ThreadingHTTPServer):
    """A stand-in for Kaggle's download service, reached as an HTTP proxy that answers for every host name.

    The token selects its behaviour: fine, rules (not accepted), cut (the file stops half-way), page (a web page instead of the file) or down;
    any other token is refused.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.archive, self.seen = competition_zip(), []

    @property
    def address(self) -> str:
        "Return the address of the server."
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    "Answer kagglehub's requests."

    def log_message(self, *_):
        "Print nothing."

    def answer(self, status: int, body: bytes, headers: dict[str, str], upto: int | None = None):
        "Send status, headers and body, or only a part of the announced body."
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[:upto])
        self.close_connection = True

    def do_POST(self):
        "Answer the API call with the address of the file, or the reason for refusing it."
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        mood = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.seen.append(f"ask {mood}")
        status, message = {"rules": (403, "You must accept this competition's rules before you'll be able to download files."),
                           "down": (503, "Try again later")}.get(mood, (401, "Unauthenticated"))
        if mood in ("fine", "cut", "page"):
            self.answer(302, b"", {"Location": f"http://storage.example/{mood}/archive.zip?signature=1"})
        else:
            self.answer(status, json.dumps({"code": status, "message": message}).encode(), {"Content-Type": "application/json"})

    def do_GET(self):
        "Send the file, or the rest of a partial download."
        body = b"<html>please wait</html>" if "/page/" in self.path else self.server.archive
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.server.seen.append(f"from {start}")
        headers = {"Accept-Ranges": "bytes", "Last-Modified": "Tue, 07 May 2013 00:00:00 GMT", "Content-Type": "application/zip"}
        self.answer(206 if start else 200, body[start:], headers, len(body) // 2 if "/cut/" in self.path else None)


@contextlib.contextmanager
def service():
    "Run the stand-in while the block runs."
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
