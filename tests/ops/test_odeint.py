"""The solvers against closed forms, against each other, and against their own rates."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torchdiffeq
from torch import Tensor

from pyro_seq.errors import DataError, NumericalError, ShapeError
from pyro_seq.ops.mlp import ACTIVATIONS, apply_layers
from pyro_seq.ops.odeint import RK4, Dopri5, Euler, Midpoint, odeint
from tests.operations import Operations

FIXED = [Euler(), Midpoint(), RK4()]
ALL = [*FIXED, Dopri5()]


def by_name(solver):
    return type(solver).__name__


def logistic(t: Tensor, state: Tensor) -> Tensor:
    return state * (1 - state)


def logistic_solution(initial: Tensor, times: Tensor) -> Tensor:
    """Path (series, time, dim) for times (time,) or (series, time)."""
    elapsed = (times - times[..., :1]).reshape(-1, times.shape[-1], 1)
    return 1 / (1 + (1 / initial - 1).unsqueeze(-2) * (-elapsed).exp())


class MLPField:
    """A second-order field, acceleration by a network."""

    def __init__(self, *sample: int, state_dim: int = 3, depth: int = 2, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        sizes = [2 * state_dim, *[7] * depth, state_dim]
        self.half = state_dim
        self.layers = [
            tuple(
                torch.randn(*sample, *shape, dtype=torch.float64, generator=generator).mul(0.6).requires_grad_()
                for shape in ((rows, columns), (rows,))
            )
            for columns, rows in pairwise(sizes)
        ]

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        return torch.cat([state[..., self.half :], apply_layers(self.layers, ACTIVATIONS["tanh"], state)], -1)


def irregular(series: int, time: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    gaps = 0.05 + torch.rand(series, time, dtype=torch.float64, generator=generator) * 0.3
    return gaps.cumsum(-1)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestAccuracy:
    @pytest.mark.parametrize(("solver", "order"), [(Euler, 1), (Midpoint, 2), (RK4, 4)])
    def test_order(self, solver, order):
        initial = torch.tensor([[0.1], [0.4]], dtype=torch.float64)
        times = torch.tensor([0.0, 2.0], dtype=torch.float64)
        exact = logistic_solution(initial, times)
        errors = torch.stack(
            [(odeint(logistic, initial, times, solver(2 / n)).path - exact).abs().max() for n in (20, 40, 80)]
        )
        rates = (errors[:-1] / errors[1:]).log2()
        assert (rates - order).abs().max() < 0.15

    @pytest.mark.parametrize(("solver", "order"), [(Euler, 1), (Midpoint, 2), (RK4, 4)])
    def test_order_of_integral_and_of_explicit_time(self, solver, order):
        # y' = y cos t has the solution y = exp(sin t), and y^2 cos t integrates to (y^2 - 1) / 2
        initial, times = torch.ones(1, 1, dtype=torch.float64), torch.tensor([0.0, 1.5], dtype=torch.float64)
        errors = []
        for n in (10, 20, 40):
            path, integral = odeint(
                lambda t, y: t.cos() * y,
                initial,
                times,
                solver(1.5 / n),
                integrand=lambda t, y: (t.cos() * y.square())[..., 0],
            )
            exact = times[-1].sin().exp()
            errors.append(torch.stack([path[0, -1, 0] - exact, integral[0, -1] - (exact.square() - 1) / 2]).abs())
        rates = (errors[1] / errors[2]).log2()
        assert (rates - order).abs().max() < 0.25

    @pytest.mark.parametrize("per_series", [False, True])
    def test_dopri5_meets_its_tolerance(self, per_series):
        initial = torch.tensor([[0.1], [0.4], [0.8]], dtype=torch.float64)
        times = irregular(3, 6) if per_series else irregular(1, 6)[0]
        path, _ = odeint(logistic, initial, times, Dopri5(rtol=1e-8, atol=1e-9))
        assert (path - logistic_solution(initial, times)).abs().max() < 1e-7

    @pytest.mark.parametrize("per_series", [False, True])
    def test_dopri5_equals_torchdiffeq(self, per_series):
        """Value and gradient, at times that differ by series against the union of all."""
        start, times = normal(5, 3, 4), (irregular(3, 6) if per_series else irregular(1, 6)[0])
        field = MLPField(state_dim=2)

        def oracle(initial):
            if not per_series:
                return torchdiffeq.odeint(field, initial, times, rtol=1e-6, atol=1e-7, method="dopri5").movedim(0, -2)
            first, span = times[:, :1], times[:, -1:] - times[:, :1]
            clock, places = ((times - first) / span).unique(return_inverse=True)
            union = torchdiffeq.odeint(
                lambda t, y: field(first + span * t, y) * span, initial, clock, rtol=1e-6, atol=1e-7, method="dopri5"
            ).movedim(0, -2)
            return torch.take_along_dim(union, places[None, :, :, None], -2)

        found, gradients = [], []
        for solve in (oracle, lambda initial: odeint(field, initial, times, Dopri5(1e-6, 1e-7)).path):
            initial = start.clone().requires_grad_()
            found.append(solve(initial))
            gradients.append(torch.autograd.grad(found[-1].cos().sum(), [initial, *sum(field.layers, ())]))
        torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-11, atol=1e-12)

    def test_dopri5_takes_as_many_operations_for_many_times_as_for_few(self):
        def operations(num_times):
            times = irregular(40, num_times)
            times = torch.cat([torch.zeros(40, 1), 3 * times / times[:, -1:]], 1)
            initial = torch.linspace(0.1, 0.9, 40, dtype=torch.float64)[:, None].requires_grad_()
            with Operations() as counter:
                odeint(logistic, initial, times, Dopri5()).path.sum().backward()
            return counter.count

        assert operations(200) == operations(2)

    @pytest.mark.parametrize("solver", ALL, ids=by_name)
    @pytest.mark.parametrize("per_series", [False, True])
    def test_constant_divergence_integrates_to_trace_times_time(self, solver, per_series):
        matrix, initial = normal(4, 4), normal(2, 3, 4)
        times = irregular(3, 5) if per_series else irregular(1, 5)[0]
        _, integral = odeint(
            lambda t, y: y @ matrix.mT, initial, times, solver,
            integrand=lambda t, y: matrix.trace().expand(y.shape[:-1]),
        )  # fmt: skip
        exact = matrix.trace() * (times - times[..., :1])
        torch.testing.assert_close(integral, exact.expand(2, 3, 5), rtol=1e-12, atol=1e-13)


class TestIntegrand:
    @pytest.mark.parametrize("solver", [*FIXED, RK4(0.05), Midpoint(0.04)], ids=str)
    @pytest.mark.parametrize("per_series", [False, True])
    def test_is_one_more_state_component(self, solver, per_series):
        field, initial = MLPField(2), normal(5, 2, 3, 6)
        times = irregular(3, 4) if per_series else irregular(1, 4)[0]

        def integrand(t, y):
            return (y.square() * (1 + t)).sum(-1)

        def augmented(t, y):
            return torch.cat([field(t, y[..., :-1]), integrand(t, y[..., :-1])[..., None]], -1)

        both = odeint(augmented, torch.nn.functional.pad(initial, (0, 1)), times, solver).path
        path, integral = odeint(field, initial, times, solver, integrand=integrand)
        torch.testing.assert_close(path, both[..., :-1], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(integral, both[..., -1], rtol=1e-12, atol=1e-12)

    def test_sees_all_stages_in_one_call(self):
        shapes = []

        def integrand(t, y):
            shapes.append((tuple(t.shape), tuple(y.shape)))
            return y.sum(-1)

        odeint(logistic, normal(5, 3, 2).sigmoid(), irregular(3, 4), RK4(), integrand=integrand)
        odeint(logistic, normal(5, 3, 2).sigmoid(), irregular(1, 4)[0], Midpoint(), integrand=integrand)
        assert shapes == [((12, 1, 3, 1), (12, 5, 3, 2)), ((6, 1, 1, 1), (6, 5, 3, 2))]


class TestBatches:
    @pytest.mark.parametrize("solver", [*FIXED, RK4(0.07), Euler(0.03)], ids=str)
    def test_series_on_their_own_times_equal_each_alone(self, solver):
        initial, times = normal(4, 3, 2).sigmoid(), irregular(3, 6)
        together = odeint(logistic, initial, times, solver, integrand=lambda t, y: (t * y).sum(-1))
        for i in range(3):
            alone = odeint(
                logistic, initial[:, i : i + 1], times[i : i + 1], solver, integrand=lambda t, y: (t * y).sum(-1)
            )
            assert torch.equal(together.path[:, i], alone.path[:, 0])
            torch.testing.assert_close(together.integral[:, i], alone.integral[:, 0], rtol=1e-13, atol=1e-14)

    @pytest.mark.parametrize("solver", ALL, ids=by_name)
    def test_shared_and_repeated_times_agree(self, solver):
        initial, times = normal(3, 2).sigmoid(), irregular(1, 6)[0]
        shared = odeint(logistic, initial, times, solver).path
        repeated = odeint(logistic, initial, times.expand(3, 6), solver).path
        torch.testing.assert_close(shared, repeated, rtol=1e-12 if solver in FIXED else 1e-4, atol=1e-12)

    @pytest.mark.parametrize(
        ("solver", "tolerance"), [*((solver, 1e-12) for solver in FIXED), (Dopri5(1e-8, 1e-9), 1e-5)], ids=str
    )
    @pytest.mark.parametrize("per_series", [False, True])
    def test_samples_equal_a_loop(self, solver, tolerance, per_series):
        field, initial = MLPField(5), normal(5, 3, 6)
        times = irregular(3, 4) if per_series else irregular(1, 4)[0]
        batched = odeint(field, initial, times, solver).path
        for i in range(5):
            single = MLPField()
            single.layers = [(weight[i], bias[i]) for weight, bias in field.layers]
            alone = odeint(single, initial[i], times, solver).path
            torch.testing.assert_close(batched[i], alone, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("solver", [*FIXED, RK4(0.1)], ids=str)
    @pytest.mark.parametrize("per_series", [False, True])
    def test_longer_grid_leaves_the_prefix_bit_equal(self, solver, per_series):
        times = irregular(3, 9) if per_series else irregular(1, 9)[0]
        field, initial = MLPField(), normal(3, 6)
        short = odeint(field, initial, times[..., :5], solver).path
        assert torch.equal(odeint(field, initial, times, solver).path[..., :5, :], short)

    @pytest.mark.parametrize("solver", ALL, ids=by_name)
    def test_state_without_a_series_axis(self, solver):
        initial, times = normal(4).sigmoid(), irregular(1, 5)[0]
        path, integral = odeint(logistic, initial, times, solver, integrand=lambda t, y: y.sum(-1))
        again = odeint(logistic, initial[None], times, solver, integrand=lambda t, y: y.sum(-1))
        assert path.shape == (5, 4) and integral.shape == (5,)
        torch.testing.assert_close(path, again.path[0])
        torch.testing.assert_close(integral, again.integral[0])

    @pytest.mark.parametrize("solver", ALL, ids=by_name)
    @pytest.mark.parametrize("shape", [(0, 2), (3, 2), (2, 0, 2)])
    @pytest.mark.parametrize("per_series", [False, True])
    @pytest.mark.parametrize("time", [1, 3])
    def test_single_time_and_empty_batch(self, solver, shape, per_series, time):
        initial = torch.ones(shape, dtype=torch.float64)
        times = torch.arange(time, dtype=torch.float64)
        times = times.expand(shape[-2], time) if per_series else times
        path, integral = odeint(logistic, initial, times, solver, integrand=lambda t, y: y.sum(-1))
        assert path.shape == (*shape[:-1], time, 2) and integral.shape == (*shape[:-1], time)
        assert torch.equal(path[..., 0, :], initial) and not integral[..., 0].any()


class TestSteps:
    @pytest.mark.parametrize(
        ("interval", "step_size", "expected"),
        [(0.1, 0.1, 1), (0.1, 0.05, 2), (0.1, 0.04, 3), (0.1, 1.0, 1), (1.0, 1e-3, 1000)],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_number_of_steps(self, interval, step_size, expected, dtype):
        calls = []

        def field(t, y):
            calls.append(float(t))
            return -y

        times = (
            (torch.arange(21) * interval).to(dtype)[-2:] if expected < 10 else torch.tensor([0, interval], dtype=dtype)
        )
        odeint(field, torch.ones(1, 1, dtype=dtype), times, Euler(step_size))
        assert len(calls) == expected
        assert calls[0] == float(times[0])

    def test_each_series_takes_its_own_number_of_steps(self):
        initial = torch.full((2, 1), 0.2, dtype=torch.float64)
        times = torch.tensor([[0.0, 0.1], [0.0, 0.4]], dtype=torch.float64)
        seen = []

        def field(t, y):
            seen.append(t[:, 0].tolist())
            return logistic(t, y)

        path = odeint(field, initial, times, Euler(0.1)).path
        torch.testing.assert_close(torch.tensor(seen).mT, torch.tensor([[0.0, 0.1, 0.1, 0.1], [0.0, 0.1, 0.2, 0.3]]))
        assert torch.equal(path[0], odeint(field, initial[:1], times[:1], Euler()).path[0])

    def test_float32_follows_the_state(self):
        path = odeint(MLPFloat32(), torch.ones(2, 2), irregular(2, 3), RK4()).path
        assert path.dtype == torch.float32


class MLPFloat32:
    def __call__(self, t, y):
        assert t.dtype == torch.float32
        return -y * t


class TestGradients:
    @pytest.mark.parametrize("solver", [*FIXED, RK4(0.15), Dopri5(1e-9, 1e-10)], ids=str)
    @pytest.mark.parametrize("per_series", [False, True])
    def test_gradcheck(self, solver, per_series):
        times = irregular(2, 3) if per_series else irregular(1, 3)[0]
        matrix = (0.5 * normal(2, 2)).requires_grad_()

        def solve(initial, matrix):
            return odeint(
                lambda t, y: torch.tanh(y @ matrix) * t,
                initial,
                times,
                solver,
                integrand=lambda t, y: y.square().sum(-1),
            )

        assert torch.autograd.gradcheck(solve, (normal(2, 2).requires_grad_(), matrix), atol=1e-5)

    def test_weights_and_second_derivatives(self):
        field, initial, times = MLPField(2), normal(2, 3, 6).requires_grad_(), irregular(3, 4)
        weights = [tensor for layer in field.layers for tensor in layer]
        loss = odeint(field, initial, times, RK4(), integrand=lambda t, y: y.square().sum(-1)).integral.sum()
        gradients = torch.autograd.grad(loss, [initial, *weights], create_graph=True)
        direction = normal(2, 3, 6, seed=7)
        (product,) = torch.autograd.grad((gradients[0] * direction).sum(), initial, retain_graph=True)

        def gradient_at(start):
            start = start.detach().requires_grad_()
            total = odeint(field, start, times, RK4(), integrand=lambda t, y: y.square().sum(-1)).integral.sum()
            return torch.autograd.grad(total, start)[0]

        step = 1e-4
        difference = (gradient_at(initial + step * direction) - gradient_at(initial - step * direction)) / (2 * step)
        torch.testing.assert_close(product, difference, rtol=1e-5, atol=1e-6)
        assert all(gradient.abs().max() > 0 for gradient in gradients)


class TestFailures:
    def test_blow_up_names_series_and_time(self):
        initial = torch.tensor([[0.1], [1e3], [0.1]])
        with pytest.raises(NumericalError, match=r"series 1, time 0\.\d+ .*RK4.*smaller `step_size`"):
            odeint(lambda t, y: y**3, initial, torch.linspace(0, 1, 11), RK4())

    def test_per_series_times_are_named(self):
        times = torch.tensor([[0.0, 1.0, 2.0], [5.0, 6.0, 7.0]])
        field = lambda t, y: torch.where(t > 5.9, torch.nan, 0.0) * torch.ones_like(y)  # noqa: E731
        with pytest.raises(NumericalError, match="series 1, time 7"):
            odeint(field, torch.ones(2, 1), times, Euler())

    def test_initial_is_blamed_for_its_own_nan(self):
        with pytest.raises(NumericalError, match=r"`initial` must be finite.*series 1"):
            odeint(logistic, torch.tensor([[0.1], [torch.nan]]), torch.arange(3.0), Euler())

    def test_bad_integrand(self):
        with pytest.raises(NumericalError, match="series 0, time 1"):
            odeint(logistic, torch.ones(2, 1), torch.arange(3.0), Euler(), integrand=lambda t, y: y.sum(-1) / 0)

    @pytest.mark.parametrize(
        ("field", "solver", "text"),
        [
            (lambda t, y: y**2, Dopri5(), "Dopri5.*step length fell|Dopri5.*not finite"),
            (lambda t, y: y * torch.nan, Dopri5(), "not finite at time 0, worst in series 0"),
            (lambda t, y: -1e4 * (y - t.cos()), Dopri5(max_num_steps=20), "`max_num_steps` = 20 steps"),
        ],
    )
    @pytest.mark.parametrize("per_series", [False, True])
    def test_dopri5(self, field, solver, text, per_series):
        times = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
        with pytest.raises(NumericalError, match=text):
            odeint(field, torch.ones(2, 1, dtype=torch.float64), times.expand(2, 3) if per_series else times, solver)

    def test_checks_survive_optimised_python(self):
        code = """
            import torch
            from pyro_seq.errors import NumericalError
            from pyro_seq.ops.odeint import RK4, Dopri5, odeint
            assert False, "asserts are still on"
            times, initial = torch.linspace(0, 3, 4, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
            stiff = Dopri5(max_num_steps=50)
            cases = [(lambda t, y: y * torch.nan, RK4()), (lambda t, y: y * torch.nan, Dopri5()),
                     (lambda t, y: y**2, Dopri5()), (lambda t, y: -1e4 * (y - t.cos()), stiff)]
            for field, solver in cases:
                try:
                    odeint(field, initial, times, solver)
                except NumericalError as error:
                    print("caught", str(error)[:60])
        """
        result = subprocess.run(
            [sys.executable, "-O", "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert result.stdout.count("caught") == 4


class TestWrongInput:
    @pytest.mark.parametrize(
        ("initial", "times", "error", "text"),
        [
            (torch.ones(2, 1), torch.tensor([0.0, 1.0, 1.0]), DataError, r"increasing. Got times\[2\] = 1 after 1"),
            (torch.ones(2, 1), torch.tensor([[0.0, 1.0], [1.0, 0.5]]), DataError, r"times\[1, 1\] = 0.5 after 1"),
            (torch.ones(2, 1), torch.tensor([0.0, torch.nan]), DataError, r"times\[1\] = nan"),
            (torch.ones(2, 1), torch.tensor([torch.inf]), DataError, r"times\[0\] = inf"),
            (torch.ones(2, 1), torch.arange(3), DataError, "`times` must be a floating-point tensor. Got torch.int64"),
            (torch.ones(2, 1, dtype=torch.long), torch.arange(3.0), DataError, "`initial` must be a floating-point"),
            (torch.ones(2, 1), [0.0, 1.0], DataError, "`times`.*Got list"),
            (torch.ones(2, 1), torch.ones(2, 2, 2), ShapeError, "`times` must be"),
            (torch.ones(2, 1), torch.ones(0), ShapeError, "at least one time"),
            (torch.ones(2, 1), torch.ones(3, 4), ShapeError, r"\(series 2, dim 1\) and times \(series 3, time 4\)"),
            (torch.ones(1), torch.ones(1, 4), ShapeError, "one row a series"),
            (torch.tensor(1.0), torch.arange(3.0), ShapeError, "`initial` must be"),
        ],
    )
    def test_at_the_door(self, initial, times, error, text):
        with pytest.raises(error, match=text):
            odeint(logistic, initial, times, RK4())

    @pytest.mark.parametrize("solver", [RK4(), Dopri5()], ids=by_name)
    def test_field_and_integrand_shapes(self, solver):
        with pytest.raises(ShapeError, match="expand `initial`"):
            odeint(lambda t, y: y.expand(5, 2, 1), torch.ones(2, 1), torch.arange(3.0), solver)

    @pytest.mark.parametrize("solver", [RK4(), Dopri5()], ids=by_name)
    def test_integrand_shape(self, solver):
        with pytest.raises(ShapeError, match="`integrand` must return one number a state"):
            odeint(logistic, torch.ones(2, 1), torch.arange(3.0), solver, integrand=lambda t, y: y)

    def test_solver(self):
        with pytest.raises(DataError, match=r"`solver` must be an object.*'rk4'"):
            odeint(logistic, torch.ones(2, 1), torch.arange(3.0), "rk4")
        for make in (lambda: RK4(0.0), lambda: Euler(-1.0), lambda: Dopri5(rtol=0.0), lambda: RK4(float("nan"))):
            with pytest.raises(DataError, match="must be a positive number"):
                make()
