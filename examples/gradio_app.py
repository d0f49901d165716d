"""A web page that finds faces: it shows the annotated photo, a table, aligned chips, head pose and expression measures.

    pip install gradio
    python examples/gradio_app.py

`find_faces` needs no Gradio and can be used in any other web page. Photos stay on the machine that runs it.
"""

import numpy as np
import pandas as pd

import facekp

COLUMNS = ("face", "confidence", "flags", "yaw", "pitch", "roll", "mouth_opening", "smile_width", "brow_raise")


def find_faces(
    image: np.ndarray | None,  # uint8 [H,W,3], RGB; None: nothing was chosen
    min_face_size: float = 0.02,  # the smallest face, as a share of the longer side
) -> tuple[np.ndarray | None, pd.DataFrame, list[np.ndarray]]:  # the drawn image, a row per face with COLUMNS, aligned chips uint8 [112,112,3]
    "Find the faces of a photo."
    if image is None:
        return None, pd.DataFrame(columns=list(COLUMNS)), []
    prediction = facekp.predict(image, min_face_size=min_face_size)
    rows = []
    for number, face in enumerate(prediction, 1):
        angles = {name: round(value) for name, value in face.pose._asdict().items()}
        measures = {name: round(value, 2) for name, value in face.expression.items()}
        rows.append({"face": number, "confidence": round(face.confidence, 2), "flags": " ".join(face.flags), **angles, **measures})
    return prediction.draw(), pd.DataFrame(rows, columns=list(COLUMNS)), [face.align(112) for face in prediction]


def build_page():
    "Return the Gradio page."
    import gradio

    with gradio.Blocks(title="facekp") as page:
        gradio.Markdown("# facekp\nFinds faces and fifteen keypoints. The measures describe geometry, not emotions or identity.")
        photo = gradio.Image(type="numpy", label="photo")
        smallest = gradio.Slider(0.02, 0.5, 0.02, label="smallest face, share of the longer side")
        button = gradio.Button("Find faces")
        found = [gradio.Image(label="faces"), gradio.Dataframe(label="measures"), gradio.Gallery(label="aligned faces")]
        button.click(find_faces, inputs=[photo, smallest], outputs=found)
    return page


if __name__ == "__main__":
    build_page().launch()
