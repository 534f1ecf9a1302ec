from dataclasses import replace

import pytest
import torch
from training_fakes import record

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.check_records import check_record
from sv3d_pipe.finetune.examples import PixelViews
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec

GOOD = record(0)
EMPTY = GOOD.rgba.clone()
EMPTY[3, ..., 3] = 0
OPAQUE = GOOD.rgba.clone()
OPAQUE[..., 3] = 255


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"rgba": GOOD.rgba.float()}, "has pictures of type float32 instead of uint8"),
        ({"rgba": GOOD.rgba[..., :3]}, r"has pictures of shape \[6, 32, 32, 3\]"),
        ({"rgba": GOOD.rgba[:, :16]}, r"has pictures of shape \[6, 16, 32, 4\]"),
        ({"azimuth_deg": GOOD.azimuth_deg[:5]}, "has 5 azimuths for 6 pictures"),
        ({"elevation_deg": GOOD.elevation_deg * float("nan")}, "has an elevation that is not a number"),
        ({"elevation_deg": GOOD.elevation_deg + 100}, "has an elevation beyond 90 degrees"),
        ({"rgba": EMPTY}, r"has an empty picture \(view 3\)"),
        ({"rgba": OPAQUE}, "has no cut-out"),
        ({"rgba": GOOD.rgba[:1].expand(6, -1, -1, -1)}, "shows the same picture in all its views"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes, sentence):
    check_record(GOOD, frames=6)
    with pytest.raises(UserError, match=f"^The object toy0 {sentence}") as raised:
        check_record(replace(GOOD, **changes), frames=6)
    assert "\n" not in str(raised.value) and str(raised.value).endswith("leave it out.")


def test_too_few_views_are_found_when_the_set_is_opened():
    with pytest.raises(UserError, match="toy1 has 6 views, fewer than the 7 frames"):
        PixelViews([record(0, views=8), record(1)], PixelCodec(size=32), 7)
    torch.testing.assert_close(
        torch.from_numpy(PixelViews([GOOD], PixelCodec(size=32), 6).azimuth_deg[0]), GOOD.azimuth_deg
    )
