"""Pictures with the true texture of a knee's film that show no knee."""

import cv2
import numpy as np

from workers.preprocessing import Grey


def real_textured(knee: Grey, random: np.random.Generator) -> Grey:
    """A shaft blown up, a joint on its side or upside down, pieces, a warp, two thighs end to end, no joint at all."""
    rows, columns = knee.shape
    kind = int(random.integers(0, 7))
    if kind == 0:
        part = knee[: rows // 4] if random.random() < 0.5 else knee[-rows // 5 :]
        image = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_LINEAR)
    elif kind == 1:
        image = np.rot90(knee, int(random.choice((1, 3))))
    elif kind == 2:
        image = knee[::-1]
    elif kind == 3:
        image = _pieces(knee, random)
    elif kind == 4:
        image = _warped(knee, random)
    elif kind == 5:
        half = knee[: rows // 3] if random.random() < 0.5 else knee[-rows // 3 :][::-1]
        tall = cv2.resize(half, (columns, rows // 2 + 1), interpolation=cv2.INTER_LINEAR)
        image = np.vstack([tall, tall[::-1]])[:rows]
    else:
        top, bottom = knee[rows // 4], knee[-rows // 5]
        ramp = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
        image = top * (1 - ramp) + bottom * ramp + random.normal(0, 0.02, knee.shape)
    return np.ascontiguousarray(np.clip(image, 0, 1), np.float32)


def _pieces(knee: Grey, random: np.random.Generator) -> Grey:
    """The knee cut in squares that lie in another order."""
    count = int(random.choice((2, 3)))
    size = knee.shape[0] // count
    squares = [knee[y * size : (y + 1) * size, x * size : (x + 1) * size] for y in range(count) for x in range(count)]
    order = random.permutation(len(squares))
    if (order == np.arange(len(squares))).all():
        order = order[::-1]
    return np.vstack([np.hstack([squares[at] for at in order[y * count : (y + 1) * count]]) for y in range(count)])


def _warped(knee: Grey, random: np.random.Generator) -> Grey:
    """A part of the knee drawn out of its shape."""
    rows, columns = knee.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    swirl = (
        random.choice([-1, 1])
        * random.uniform(1.0, 2.5)
        * np.exp(-(((x - columns / 2) / columns) ** 2 + ((y - rows / 2) / rows) ** 2) * 6)
    )
    cos, sin = np.cos(swirl), np.sin(swirl)
    from_x = (x - columns / 2) * cos - (y - rows / 2) * sin + columns / 2
    from_y = (x - columns / 2) * sin + (y - rows / 2) * cos + rows / 2
    return np.asarray(
        cv2.remap(
            knee, from_x.astype(np.float32), from_y.astype(np.float32), cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT
        )
    )
