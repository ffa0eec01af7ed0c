"""Squared error, PSNR and SSIM against closed forms and scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.metrics import mae, mse, psnr, ssim

SERIES, TIME, CHANNEL, HEIGHT, WIDTH = 3, 4, 2, 16, 19


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(SERIES, TIME, CHANNEL, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    noise = torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    return (truth + 0.1 * noise).clamp(0, 1), truth


def step_mask() -> torch.Tensor:
    mask = torch.ones(SERIES, TIME, dtype=torch.bool)
    mask[0, 1:] = False
    mask[2, 0] = False
    return mask


def test_the_absolute_error_is_smallest_at_the_median():
    truth = torch.tensor([[[0.0], [1.0], [50.0]]])
    assert float(mae(torch.full_like(truth, 1.0), truth)) == pytest.approx(50 / 3)
    assert all(float(mae(torch.full_like(truth, level), truth)) > 50 / 3 for level in (0.9, 1.1, 17.0))
    assert float(mae(torch.zeros(1, 3, 1), truth, mask=truth[..., 0] < 9, keep=0)) == 0.5


def test_mse_by_hand() -> None:
    truth = torch.zeros(2, 2, 1)
    prediction = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    assert mse(prediction, truth) == 7.5
    assert mse(prediction, truth, keep=0).tolist() == [2.5, 12.5]
    assert mse(prediction, truth, keep=1).tolist() == [5.0, 10.0]
    assert mse(prediction, truth, keep=(0, 1)).tolist() == [[1.0, 4.0], [9.0, 16.0]]
    mask = torch.tensor([[True, False], [True, True]])
    assert mse(prediction, truth, mask=mask) == pytest.approx(26 / 3)
    assert mse(prediction, truth, mask=mask, keep=0).tolist() == [1.0, 12.5]


@pytest.mark.parametrize("metric", [mse, psnr, ssim])
def test_mask_equals_leaving_out(metric) -> None:
    prediction, truth = images()
    mask = step_mask()
    spoilt = torch.where(mask[..., None, None, None], prediction, torch.nan)
    torch.testing.assert_close(metric(spoilt, truth, mask=mask), metric(prediction[mask], truth[mask]))
    kept = metric(spoilt, truth, mask=mask, keep=0)
    expected = torch.stack([metric(prediction[i, mask[i]], truth[i, mask[i]]) for i in range(SERIES)])
    torch.testing.assert_close(kept, expected)


@pytest.mark.parametrize("metric", [mse, psnr, ssim])
def test_sample_axes_are_kept(metric) -> None:
    prediction, truth = images()
    samples = torch.stack([prediction, truth, 1 - truth])
    scores = metric(samples, truth, mask=step_mask(), keep=0)
    assert scores.shape == (3, SERIES)
    for score, sample in zip(scores, samples, strict=True):
        torch.testing.assert_close(score, metric(sample, truth, mask=step_mask(), keep=0))


@pytest.mark.parametrize("metric", [mse, psnr, ssim])
def test_nothing_scored_is_nan(metric) -> None:
    prediction, truth = images()
    mask = step_mask()
    mask[1] = False
    assert metric(prediction, truth, mask=mask, keep=0).isnan().tolist() == [False, True, False]


def test_sequences_fit_as_they_are() -> None:
    values = torch.tensor([[[1.0, math.nan], [2.0, 3.0]]])
    data = Sequences(values)
    assert mse(torch.zeros(1, 2, 2), data.values, mask=data.mask) == pytest.approx(14 / 3)


def test_numpy_and_integers() -> None:
    score = mse(np.full((1, 2, 1), 3), np.full((1, 2, 1), 1))
    assert score == 4
    assert score.dtype == torch.float32
    assert mse(np.zeros((1, 2, 1), np.float32), np.ones((1, 2, 1))).dtype == torch.float64


def test_psnr_against_scikit_image() -> None:
    prediction, truth = images()
    scores = psnr(255 * prediction, 255 * truth, data_range=255.0, keep=(0, 1, 2))
    for where in np.ndindex(SERIES, TIME, CHANNEL):
        expected = peak_signal_noise_ratio(255 * truth[where].numpy(), 255 * prediction[where].numpy(), data_range=255)
        assert scores[where].item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(psnr(prediction, truth), scores.mean())


def test_psnr_caps_identical_images() -> None:
    _, truth = images()
    assert psnr(truth, truth).item() == pytest.approx(100.0)
    assert psnr(truth.float(), truth.float(), cap=60.0).item() == pytest.approx(60.0)


def test_psnr_ignores_hidden_pixels() -> None:
    prediction, truth = images()
    mask = torch.ones_like(truth, dtype=torch.bool)
    mask[..., :5, :] = False
    expected = psnr(prediction[..., 5:, :], truth[..., 5:, :])
    torch.testing.assert_close(psnr(prediction, truth, mask=mask), expected)


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (9, 1.0)])
def test_ssim_against_scikit_image(window: int, sigma: float) -> None:
    prediction, truth = images()
    border = window // 2
    scores = ssim(prediction, truth, window=window, sigma=sigma, keep=(0, 1, 2))
    for where in np.ndindex(SERIES, TIME, CHANNEL):
        _, full = structural_similarity(
            prediction[where].numpy(),
            truth[where].numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=sigma,
            use_sample_covariance=False,
            full=True,
        )
        expected = full[border:-border, border:-border].mean()
        assert scores[where].item() == pytest.approx(expected, rel=1e-10)


def test_ssim_in_single_precision() -> None:
    prediction, truth = images()
    double = ssim(prediction, truth, keep=(0, 1, 2))
    single = ssim(prediction.float(), truth.float(), keep=(0, 1, 2))
    # Squares near 1 are subtracted and divided by C2 = 9e-4: about 100 units of the last place.
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e3 * torch.finfo(torch.float32).eps)


def test_ssim_of_equal_and_of_flat_images() -> None:
    _, truth = images()
    torch.testing.assert_close(ssim(truth, truth), torch.tensor(1.0, dtype=torch.float64))
    dark, bright = torch.full_like(truth, 0.2), torch.full_like(truth, 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(dark, bright).item() == pytest.approx(expected, rel=1e-9)


def test_wrong_arguments() -> None:
    prediction, truth = images()
    with pytest.raises(ShapeError, match="nothing is broadcast"):
        mse(prediction[:, :1], truth)
    with pytest.raises(ShapeError, match="mask"):
        mse(prediction, truth, mask=step_mask().T)
    with pytest.raises(ShapeError, match="mask"):
        mse(prediction, truth, mask=step_mask().float())
    for keep in (5, -1, (0, 0)):
        with pytest.raises(ShapeError, match="keep"):
            mse(prediction, truth, keep=keep)
    with pytest.raises(ShapeError, match="keep"):
        ssim(prediction, truth, keep=3)
    with pytest.raises(ShapeError, match="channel"):
        psnr(torch.zeros(4, 4), torch.zeros(4, 4))
    for window in (10, 17, 0):
        with pytest.raises(ShapeError, match="window=15"):
            ssim(prediction, truth, window=window)
    with pytest.raises(DataError, match="data_range"):
        psnr(prediction, truth, data_range=0.0)
    with pytest.raises(DataError, match="sigma"):
        ssim(prediction, truth, sigma=0.0)
    mask = torch.ones_like(truth, dtype=torch.bool)
    mask[0, 0, 0, 0, 0] = False
    with pytest.raises(UnsupportedError, match="whole images"):
        ssim(prediction, truth, mask=mask)
    with pytest.raises(DataError, match=r"data\.values"):
        mse(Sequences(truth), Sequences(truth))


# ---------------------------------------------------------------------- ranges and axes that numbers contradict


def eight_bit() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (1, 2, 1, 32, 32), dtype=np.uint8)
    return np.clip(truth.astype(int) + rng.integers(-8, 9, truth.shape), 0, 255).astype(np.uint8), truth


def test_eight_bit_images_have_the_range_of_their_type() -> None:
    """As scikit-image has it."""
    prediction, truth = eight_bit()
    expected = np.mean([peak_signal_noise_ratio(truth[0, t, 0], prediction[0, t, 0]) for t in range(2)])
    assert psnr(prediction, truth).item() == pytest.approx(expected, rel=1e-5)
    scaled = (torch.from_numpy(images).double() / 255 for images in (prediction, truth))
    assert ssim(prediction, truth).item() == pytest.approx(ssim(*scaled).item(), rel=1e-4)
    dark = np.minimum(truth, 1)  # the type decides, not the largest number
    assert psnr(dark * 0, dark).item() == pytest.approx(psnr(dark * 0, dark, data_range=255).item())


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    "change",
    [
        lambda p, t: (p.astype("f4"), t.astype("f4")),  # floats from 0 to 255
        lambda p, t: (p / 255.0, t),  # one of two is scaled
        lambda p, t: (p, t / 255.0),
        lambda p, t: (p.astype(np.int64), t.astype(np.int64)),  # a type without a white
        lambda p, t: (p / 127.5 - 1, t / 127.5 - 1),  # from -1 to 1
    ],
)
def test_a_default_range_that_numbers_contradict_is_refused(metric, change) -> None:
    with pytest.raises(DataError, match="such as `data_range=255`"):
        metric(*change(*eight_bit()))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_a_range_below_that_of_the_truth_is_refused(metric) -> None:
    prediction, truth = eight_bit()
    with pytest.raises(DataError, match=r"`data_range` must be .*Got 1 for `truth` from 0 to 255"):
        metric(prediction, truth, data_range=1.0)
    scaled = metric(prediction / 100.0, truth / 100.0, data_range=2.55)
    assert scaled.item() == pytest.approx(metric(prediction, truth).item(), rel=1e-4)


def test_predictions_may_leave_the_range_and_hidden_pixels_do_not_count() -> None:
    prediction, truth = images()
    assert psnr(prediction + 2, truth).isfinite()
    truth[0, 0] = 300.0
    mask = torch.ones(SERIES, TIME, dtype=torch.bool)
    mask[0, 0] = False
    assert psnr(prediction, truth, mask=mask).isfinite() and ssim(prediction, truth, mask=mask).isfinite()


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_that_end_with_their_channels_are_refused(metric, channels: int) -> None:
    frames = torch.rand(2, 3, 16, 16, channels)
    with pytest.raises(ShapeError, match=r"`truth` must be images.*`values.movedim\(-1, -3\)`"):
        metric(frames, frames)
    assert metric(frames.movedim(-1, -3), frames.movedim(-1, -3)).isfinite()
