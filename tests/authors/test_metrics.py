"""Scores against scikit-image, properscoring, scipy, scikit-learn, and the structural similarity of SRVP's authors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_seq.metrics import auroc, crps, energy_score, frechet_distance, psnr, ssim
from tests.authors.golden import assert_equal, assert_other, load

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load("metrics")


def each_channel(images: Tensor) -> Tensor:
    """Channels as images of one channel each: (series, time, channel, 1, height, width)."""
    return images[:, :, :, None]


def test_image_scores_of_channels(golden):
    pair = each_channel(golden["predicted_images"]), each_channel(golden["images"])
    similarity = ssim(*pair, keep=(0, 1, 2))
    found = {"psnr_channel": psnr(*pair, keep=(0, 1, 2)), "ssim_channel": similarity, "ssim_channel_srvp": similarity}
    assert_equal(found, golden)


def test_image_scores_of_frames(golden):
    pair = golden["predicted_images"], golden["images"]
    assert_equal({"ssim_frame": ssim(*pair, keep=(0, 1))}, golden)
    assert_equal({"psnr_frame": psnr(*pair, keep=(0, 1))}, {"psnr_frame": golden["psnr_channel"].mean(-1)})


def test_probabilistic_scores(golden):
    samples, values = golden["samples"], golden["values"]
    found = {
        "crps": crps(samples, values, keep=(0, 1, 2)),
        "crps_fair": crps(samples, values, keep=(0, 1, 2), is_fair=True),
        "energy_score_step": energy_score(samples, values, 1, keep=(0, 1)),
        "energy_score_path": energy_score(samples, values, 2, keep=0),
    }
    assert_equal(found, golden)


def test_frechet_distance(golden):
    real, generated = golden["features_real"], golden["features_generated"]
    found = {
        "frechet_distance": frechet_distance(real, generated),
        "frechet_distance_few": frechet_distance(real[:8], generated[:9]),
    }
    assert_equal(found, golden)


def test_area_under_the_curve(golden):
    area = auroc(golden["scores_negative"], golden["scores_positive"])
    assert_equal({"auroc": torch.tensor(area, dtype=torch.float64)}, golden)


# ------------------------------------------------------------------ conventions, each broken on purpose


def test_the_ratio_of_a_frame_is_the_mean_over_channels(golden):
    """That of both channels at once, scikit-image's for a colour image, is another number."""
    assert_other(psnr(golden["predicted_images"], golden["images"], keep=(0, 1)), golden["psnr_frame"], 1e-6)


def test_another_window_is_another_similarity(golden):
    pair = each_channel(golden["predicted_images"]), each_channel(golden["images"])
    assert_other(ssim(*pair, sigma=2.0, keep=(0, 1, 2)), golden["ssim_channel"], 1e-4)
    assert_other(ssim(*pair, data_range=2.0, keep=(0, 1, 2)), golden["ssim_channel"], 1e-4)


def test_pairs_of_a_sample_with_itself_make_the_score_unfair(golden):
    found = crps(golden["samples"], golden["values"], keep=(0, 1, 2))
    assert_other(found, golden["crps_fair"], 1e-2)


def test_covariances_with_n_in_the_denominator_make_another_distance(golden):
    def shrunk(features: Tensor) -> Tensor:
        mean, count = features.mean(0), len(features)
        return mean + (features - mean) * ((count - 1) / count) ** 0.5

    found = frechet_distance(shrunk(golden["features_real"]), shrunk(golden["features_generated"]))
    assert_other(found, golden["frechet_distance"], 1e-3)


def test_ties_count_half(golden):
    usual, strange = golden["scores_negative"], golden["scores_positive"]
    wins = (strange[:, None] > usual).double().mean()
    assert_other(wins, golden["auroc"], 1e-3)
