"""Worlds with one ball, walls and paddles, and their physics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from pyro_seq.errors import DataError, UnsupportedError

SIZE = 32  # height and width of a world, in pixels
RADIUS = 3  # of the ball
_SECONDS_PER_FRAME = 0.2  # one step of the physics engine
_MASS = 1.0
_MARGIN = 6.0  # balls start at least this far from the edge of the image
PADDLES_AT, PADDLE_HALF_LENGTH, _PADDLE_RADIUS, _PADDLE_ELASTICITY, _PADDLE_STEP = (0.0, 30.0), 3.0, 1.0, 0.99, 2.0

Point = tuple[float, float]


@dataclass(frozen=True)
class BallWorld:
    """Walls and ball of `ball_in_world`: one of the four worlds of the Kalman VAE, or a custom one.

    Lengths are in pixels of an image of 32 x 32 with x to the right and y up, times in seconds; a frame takes 0.2 s.
    The ball has radius 3 and mass 1. It starts at Gaussian coordinates around (16, 16), clipped to 6 to 26, in a
    uniformly random direction.

    Args:
        walls: Pairs of end points.
        position_scale: Standard deviation of the start coordinates before clipping.
        speeds: Range of the uniform start speed, in pixels per second.
        gravity: Downward acceleration in pixels per second squared.
        ball_elasticity: Share of the speed kept in a bounce, multiplied by that of the wall.
        wall_elasticity: The same for the walls.
        has_paddles: Add two paddles, 6 pixels high, at the left and right edges, which follow the ball at up to 2
            pixels per frame.

    Raises:
        DataError: When a number is out of range.
    """

    walls: tuple[tuple[Point, Point], ...]
    position_scale: float
    speeds: tuple[float, float] = (10.0, 15.0)
    gravity: float = 0.0
    ball_elasticity: float = 1.0
    wall_elasticity: float = 1.0
    has_paddles: bool = False

    def __post_init__(self) -> None:
        if np.shape(self.walls)[1:] != (2, 2) or not np.isfinite(self.walls).all():
            raise DataError(f"`walls` must be pairs of end points ((x, y), (x, y)). Got {self.walls!r}.")
        for name in ("position_scale", "ball_elasticity", "wall_elasticity"):
            if not 0 <= getattr(self, name) < math.inf:
                raise DataError(f"`{name}` must be finite and not negative. Got {getattr(self, name)!r}.")
        if len(self.speeds) != 2 or not 0 <= self.speeds[0] <= self.speeds[1] < math.inf:
            raise DataError(f"`speeds` must be a lower and an upper limit, not negative. Got {self.speeds!r}.")
        if not math.isfinite(self.gravity):
            raise DataError(f"`gravity` must be finite. Got {self.gravity!r}.")

    @classmethod
    def box(cls) -> BallWorld:
        """A square with walls at 2 and 30."""
        return cls(walls=_closed((2, 2), (2, 30), (30, 30), (30, 2)), position_scale=10.0)

    @classmethod
    def box_with_gravity(cls) -> BallWorld:
        """The same square; the ball is slower and falls."""
        return cls(walls=cls.box().walls, position_scale=8.0, speeds=(5.0, 10.0), gravity=5.0)

    @classmethod
    def hexagon(cls) -> BallWorld:
        """An irregular polygon of six walls."""
        corners = _closed((3, 1), (1, 15), (8, 30), (25, 30), (30, 8), (15, 1))
        return cls(walls=corners, position_scale=2.5)

    @classmethod
    def pong(cls) -> BallWorld:
        """Floor, roof and two paddles; a bounce loses a tenth of the speed normal to the wall."""
        walls = (((0.0, 1.0), (32.0, 1.0)), ((0.0, 32.0), (32.0, 32.0)))
        return cls(walls, 3.0, speeds=(10.0, 10.0), ball_elasticity=0.9, wall_elasticity=0.99, has_paddles=True)


def simulate(world: BallWorld, num_series: int, num_steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """States (series, time, 4), x, y and the velocities at every frame, and heights of the paddles (series, time, 2).

    The random numbers come from NumPy's legacy generator in the order angle, speed, position, series by series, so that
    the seeds of the public data sets give their starts. Each series has a separate space and so does not depend on the
    number of series.
    """
    pymunk = _pymunk()
    rng = np.random.RandomState(seed)
    states = np.empty((num_series, num_steps, 4))
    paddles = np.empty((num_series, num_steps, 2 if world.has_paddles else 0))
    for series in range(num_series):
        angle = math.radians(rng.uniform(0.0, 360.0))
        slow, fast = world.speeds
        speed = rng.uniform(slow, fast) if fast > slow else slow
        start = np.clip(SIZE / 2 + world.position_scale * rng.normal(size=2), _MARGIN, SIZE - _MARGIN)
        game = _Game(pymunk, world, start, (speed * math.cos(angle), speed * math.sin(angle)))
        if world.has_paddles:
            game.advance()  # the public Pong code draws after the step, the other worlds before it
        for step in range(num_steps):
            states[series, step] = (*game.ball.position, *game.ball.velocity)
            paddles[series, step] = [(paddle.a.y + paddle.b.y) / 2 for paddle in game.paddles]
            game.advance()
    return states, paddles


class _Game:
    """A space with its ball, walls and paddles."""

    def __init__(self, pymunk: ModuleType, world: BallWorld, position: np.ndarray, velocity: Point) -> None:
        self.space = pymunk.Space()
        self.space.gravity = (0.0, -world.gravity)
        ground, middle = self.space.static_body, SIZE / 2
        for start, end in world.walls:
            wall = pymunk.Segment(ground, start, end, 0.0)
            wall.elasticity = world.wall_elasticity
            self.space.add(wall)
        self.ball = pymunk.Body(_MASS, pymunk.moment_for_circle(_MASS, 0, RADIUS))
        self.ball.position, self.ball.velocity = tuple(position.tolist()), velocity
        disc = pymunk.Circle(self.ball, RADIUS)
        disc.elasticity = world.ball_elasticity
        self.space.add(self.ball, disc)
        self.paddles: list[Any] = []
        for x in PADDLES_AT if world.has_paddles else ():
            ends = (x, middle + PADDLE_HALF_LENGTH), (x, middle - PADDLE_HALF_LENGTH)
            paddle = pymunk.Segment(ground, *ends, _PADDLE_RADIUS)
            paddle.elasticity = _PADDLE_ELASTICITY
            self.space.add(paddle)
            self.paddles.append(paddle)

    def advance(self) -> None:
        """Move the paddles, then everything by one frame."""
        for paddle in self.paddles:
            top, bottom = paddle.a, paddle.b
            ahead = self.ball.position.y - (top.y + bottom.y) / 2
            move = 0.0
            if ahead < -_PADDLE_STEP / 2:
                move = -min(bottom.y, _PADDLE_STEP)
            elif ahead > _PADDLE_STEP / 2:
                move = min(SIZE - top.y, _PADDLE_STEP)
            self.space.remove(paddle)  # removed and added again, so that the engine updates its position
            paddle.unsafe_set_endpoints((top.x, top.y + move), (bottom.x, bottom.y + move))
            self.space.add(paddle)
        self.space.step(_SECONDS_PER_FRAME)


def _closed(*corners: Point) -> tuple[tuple[Point, Point], ...]:
    """The sides of a polygon."""
    return tuple(zip(corners, corners[1:] + corners[:1], strict=True))


def _pymunk() -> ModuleType:
    """The physics engine."""
    try:
        import pymunk
    except ImportError as error:
        raise UnsupportedError(
            "Balls in worlds need the physics engine pymunk, which is not installed. "
            "Install it with: pip install 'pyro_seq[physics]'"
        ) from error
    return pymunk
