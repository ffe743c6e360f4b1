"""Four classic control tasks as pure functions of tensors, many environments at once.

The physics are those of Gymnasium's CartPole-v1, Acrobot-v1, MountainCar-v0 and
Pendulum-v1, its time limits included. Any leading shape is allowed: (E,) environments,
or (N, E) of them for N seeds. All is computed where the state lies and with its
precision, float32 or float64. The physics take tensors or arrays: on a CPU
:func:`step` hands them numpy's view of the same memory, which is three times faster
for the small batches of policy gradients and the same for large ones.

:func:`step` keeps the two ends of an episode apart (terminated: the world ended;
truncated: the clock did), starts the next episode by itself and hands over the final
observation of the last one, which is what a bootstrap at a truncation needs:
next_value = where(terminated, 0, where(truncated, V(final), V(observation))).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Shape = int | tuple[int, ...]
Moved = tuple[Any, Any, Any]


class World(NamedTuple):
    """A task: `physics(state, action) -> (state, reward, terminated)`, and constants.

    `observe` maps a state (..., D) to an observation (..., `observations`). `actions`
    is the number of discrete actions; where it is 0, actions are real vectors of
    `dimensions`. Starts are uniform between `low` and `high`, each (D,). `limit` is the
    clock: an episode is truncated after so many steps. Change it with
    ``world._replace(limit=...)``.
    """

    name: str
    physics: Callable[[Any, Any], Moved]
    observe: Callable[[Any], Any]
    observations: int
    actions: int
    dimensions: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    limit: int


class State(NamedTuple):
    """Where the environments are: the physical state (..., D) and the age (...)."""

    physical: Tensor
    age: Tensor


class Outcome(NamedTuple):
    """What one step led to.

    `observation` (..., O) is what to act on next: the start of the next episode where
    one ended. `final` (..., O) is what the step itself reached. Without an end the two
    are equal. `terminated` and `truncated` are never both true.
    """

    observation: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final: Tensor


class Evaluation(NamedTuple):
    """Undiscounted returns and lengths of whole episodes, each of the shape asked."""

    returns: Tensor
    lengths: Tensor


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _tools(state: Any) -> ModuleType:
    return torch if isinstance(state, Tensor) else np


def _parts(state: Any) -> list[Any]:
    return [state[..., k] for k in range(state.shape[-1])]


def cartpole(state: Any, action: Any) -> Moved:
    """Move a cart with a pole for 0.02 s: action 0 pushes to the left, 1 to the right.

    The state is (x, x', angle, angle'). The reward is 1 a step; the episode is
    terminated where abs x > 2.4 or the pole leans by more than 12 degrees.

    Parameters
    ----------
    state : (..., 4) tensor or array
        Floating point.
    action : (...) tensor or array
        0 or 1, in the state's precision.

    Returns
    -------
    tuple
        The next state (..., 4), reward (...), terminated (...).

    Notes
    -----
    Source: Barto, Sutton and Anderson (1983), as in Gymnasium's CartPole-v1.

    Examples
    --------
    >>> _, reward, terminated = cartpole(torch.zeros(2, 4), torch.tensor([0.0, 1.0]))
    >>> reward.tolist(), terminated.tolist()
    ([1.0, 1.0], [False, False])
    """
    xp = _tools(state)
    x, speed, angle, spin = _parts(state)
    cos, sin = xp.cos(angle), xp.sin(angle)
    push = (20.0 * action - 10.0 + 0.05 * spin * spin * sin) / 1.1
    turn = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - (0.1 / 1.1) * cos * cos))
    pull = push - (0.05 / 1.1) * turn * cos
    x, angle = x + 0.02 * speed, angle + 0.02 * spin
    parts = (x, speed + 0.02 * pull, angle, spin + 0.02 * turn)
    fallen = (abs(x) > 2.4) | (abs(angle) > math.pi / 15)
    return xp.stack(parts, -1), xp.ones_like(x), fallen


def _acrobot_motion(state: Any, torque: Any) -> Any:
    """Return the time derivative (..., 4) of two links of mass and length 1."""
    xp = _tools(state)
    one, two, spin_one, spin_two = _parts(state)
    cos, sin = xp.cos(two), xp.sin(two)
    inertia, coupling = 3.5 + cos, 1.25 + 0.5 * cos
    lower = 4.9 * xp.sin(one + two)
    upper = 14.7 * xp.sin(one) + lower
    upper = upper - 0.5 * spin_two * (spin_two + 2 * spin_one) * sin
    ratio = coupling / inertia
    push = torque + ratio * upper - 0.5 * spin_one * spin_one * sin - lower
    turn_two = push / (1.25 - coupling * ratio)
    turn_one = -(coupling * turn_two + upper) / inertia
    return xp.stack((spin_one, spin_two, turn_one, turn_two), -1)


def acrobot(state: Any, action: Any) -> Moved:
    """Swing two links for 0.2 s by a torque of action - 1 at the joint between them.

    The state is (angle 1, angle 2, angle 1', angle 2'); one step of Runge and Kutta's
    method of order 4. The reward is -1 a step, 0 for the step that lifts the tip to
    more than one length above the bar, which terminates the episode.

    Parameters
    ----------
    state : (..., 4) tensor or array
        Floating point.
    action : (...) tensor or array
        0, 1 or 2, in the state's precision.

    Returns
    -------
    tuple
        The next state (..., 4), reward (...), terminated (...).

    Notes
    -----
    Source: Sutton and Barto's book, as in Gymnasium's Acrobot-v1.

    Examples
    --------
    >>> _, reward, terminated = acrobot(torch.zeros(1, 4), torch.tensor([2.0]))
    >>> reward.tolist(), terminated.tolist()
    ([-1.0], [False])
    """
    xp, torque, turn = _tools(state), action - 1.0, 2 * math.pi
    k1 = _acrobot_motion(state, torque)
    k2 = _acrobot_motion(state + 0.1 * k1, torque)
    k3 = _acrobot_motion(state + 0.1 * k2, torque)
    k4 = _acrobot_motion(state + 0.2 * k3, torque)
    parts = _parts(state + (0.2 / 6) * (k1 + 2 * (k2 + k3) + k4))
    one, two = (angle - turn * xp.round(angle / turn) for angle in parts[:2])
    spins = (xp.clip(parts[k], -n * turn, n * turn) for k, n in ((2, 2.0), (3, 4.5)))
    up = -xp.cos(one) - xp.cos(one + two) > 1.0
    reward = xp.where(up, 0 * one, -1.0)
    return xp.stack((one, two, *spins), -1), reward, up


def mountain_car(state: Any, action: Any) -> Moved:
    """Drive a weak car in a valley: the engine pushes by action - 1.

    The state is (position, speed). The reward is -1 a step; the episode is terminated
    at position 0.5.

    Parameters
    ----------
    state : (..., 2) tensor or array
        Floating point.
    action : (...) tensor or array
        0, 1 or 2, in the state's precision.

    Returns
    -------
    tuple
        The next state (..., 2), reward (...), terminated (...).

    Notes
    -----
    Source: Moore (1990), as in Gymnasium's MountainCar-v0.

    Examples
    --------
    >>> moved, _, _ = mountain_car(torch.tensor([[-1.2, -0.07]]), torch.zeros(1))
    >>> round(moved[0, 1].item(), 3)
    0.0
    """
    xp = _tools(state)
    position, speed = _parts(state)
    speed = speed + 0.001 * (action - 1.0) - 0.0025 * xp.cos(3 * position)
    speed = xp.clip(speed, -0.07, 0.07)
    position = xp.clip(position + speed, -1.2, 0.6)
    speed = xp.where((position <= -1.2) & (speed < 0), 0.0, speed)
    there = (position >= 0.5) & (speed >= 0)
    return xp.stack((position, speed), -1), -xp.ones_like(speed), there


def pendulum(state: Any, action: Any) -> Moved:
    """Swing a pendulum for 0.05 s by a torque, clipped to [-2, 2].

    The state is (angle, angle'), the angle 0 upright. The reward is
    -(angle^2 + 0.1 angle'^2 + 0.001 torque^2), of the state before the step and with
    the angle in [-pi, pi). It never terminates.

    Parameters
    ----------
    state : (..., 2) tensor or array
        Floating point.
    action : (..., 1) tensor or array
        Torque.

    Returns
    -------
    tuple
        The next state (..., 2), reward (...), terminated (...).

    Notes
    -----
    Source: Gymnasium's Pendulum-v1.

    Examples
    --------
    >>> _, reward, _ = pendulum(torch.tensor([[0.0, 1.0]]), torch.tensor([[9.0]]))
    >>> round(reward.item(), 4)
    -0.104
    """
    xp = _tools(state)
    angle, spin = _parts(state)
    torque = xp.clip(action[..., 0], -2.0, 2.0)
    lean = xp.remainder(angle + math.pi, 2 * math.pi) - math.pi
    reward = -(lean * lean + 0.1 * spin * spin + 0.001 * torque * torque)
    spin = xp.clip(spin + 0.05 * (15.0 * xp.sin(angle) + 3.0 * torque), -8.0, 8.0)
    return xp.stack((angle + 0.05 * spin, spin), -1), reward, spin > math.inf


def _all(state: Any) -> Any:
    return state


def _acrobot_view(state: Any) -> Any:
    xp = _tools(state)
    one, two, *spins = _parts(state)
    return xp.stack((xp.cos(one), xp.sin(one), xp.cos(two), xp.sin(two), *spins), -1)


def _pendulum_view(state: Any) -> Any:
    xp = _tools(state)
    angle, spin = _parts(state)
    return xp.stack((xp.cos(angle), xp.sin(angle), spin), -1)


def _world(
    physics: Callable[[Any, Any], Moved],
    observe: Callable[[Any], Any],
    sizes: tuple[int, int, int],
    start: tuple[tuple[float, ...], tuple[float, ...]],
    limit: int,
) -> World:
    return World(physics.__name__, physics, observe, *sizes, *start, limit)


CARTPOLE = _world(cartpole, _all, (4, 2, 0), ((-0.05,) * 4, (0.05,) * 4), 500)
ACROBOT = _world(acrobot, _acrobot_view, (6, 3, 0), ((-0.1,) * 4, (0.1,) * 4), 500)
MOUNTAIN_CAR = _world(mountain_car, _all, (2, 3, 0), ((-0.6, 0.0), (-0.4, 0.0)), 200)
PENDULUM = _world(
    pendulum, _pendulum_view, (3, 0, 1), ((-math.pi, -1.0), (math.pi, 1.0)), 200
)


@functools.cache
def _bounds(
    world: World, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    low, high = torch.tensor((world.low, world.high), dtype=dtype, device=device)
    return low, high - low


def _start(
    world: World, shape: Shape, dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    low, width = _bounds(world, dtype, generator.device)
    axes = (shape,) if isinstance(shape, int) else shape
    size = (*axes, len(world.low))
    draws = torch.rand(size, dtype=dtype, device=low.device, generator=generator)
    return torch.addcmul(low, width, draws)


def reset(
    world: World,
    shape: Shape,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> tuple[State, Tensor]:
    """Return the starts of new episodes and what is seen there.

    Parameters
    ----------
    world : World
        The task.
    shape : int or tuple of int
        E environments, or a shape such as (N, E).
    generator : torch.Generator
        Source of the starts; all that follows lies on its device.
    dtype : torch.dtype
        ``torch.float32`` or ``torch.float64``.

    Returns
    -------
    tuple
        A :class:`State` and the observation (..., O).

    Raises
    ------
    ValueError
        If an axis of `shape` is below 1 or `dtype` is another.

    Examples
    --------
    >>> _, seen = reset(PENDULUM, (2, 5), torch.Generator().manual_seed(0))
    >>> seen.shape
    torch.Size([2, 5, 3])
    """
    if shape == () or min((shape,) if isinstance(shape, int) else shape) < 1:
        raise ValueError(f"shape is {shape}: there must be at least 1 environment")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is {dtype}: it must be torch.float32 or torch.float64")
    physical = _start(world, shape, dtype, generator)
    age = torch.zeros_like(physical[..., 0], dtype=torch.int64)
    seen: Tensor = world.observe(physical)
    return State(physical, age), seen


def _check_action(world: World, age: Tensor, action: Tensor) -> None:
    wanted = age.shape if world.actions else (*age.shape, world.dimensions)
    if action.shape != wanted:
        raise ValueError(
            f"action has shape {tuple(action.shape)}: {world.name} needs {(*wanted,)}"
        )
    if world.actions and action.is_floating_point():
        raise ValueError(f"action is {action.dtype}: {world.name} needs integers")
    if world.actions and _on_cpu(action):
        chosen = action.numpy()
        wrong = chosen.max() if chosen.max() >= world.actions else chosen.min()
        if not 0 <= wrong < world.actions:
            raise ValueError(f"action is {wrong}: {world.name} has {world.actions}")


def step(
    world: World, state: State, action: Tensor, generator: torch.Generator
) -> tuple[State, Outcome]:
    """Take one step in every environment, and start again where an episode ended.

    Parameters
    ----------
    world : World
        The task.
    state : State
        From :func:`reset` or from the last call.
    action : (...) tensor of int, or (..., dimensions) tensor
        Its range is checked on a CPU only: elsewhere that would wait for the device.
    generator : torch.Generator
        Source of the starts of next episodes.

    Returns
    -------
    tuple
        The next :class:`State` and the :class:`Outcome`.

    Raises
    ------
    ValueError
        If the action has another shape or type, or is none of the world's.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> state, _ = reset(CARTPOLE._replace(limit=1), 2, generator)
    >>> state, out = step(CARTPOLE._replace(limit=1), state, state.age, generator)
    >>> out.truncated.tolist(), state.age.tolist()
    ([True, True], [0, 0])
    """
    _check_action(world, state.age, action)
    dtype, here = state.physical.dtype, _on_cpu(state.physical)
    given = (state.physical, state.age, action.detach().to(dtype))
    physical, age, push = (part.numpy() if here else part for part in given)
    physical, reward, terminated = world.physics(physical, push)
    final = seen = world.observe(physical)
    age = age + 1
    late = age >= world.limit
    ended, truncated = terminated | late, late & ~terminated
    # Asking whether any ended would make a GPU wait.
    if not here or ended.any():
        start = _start(world, ended.shape, dtype, generator)
        fresh: Any = start.numpy() if here else start
        physical = _tools(physical).where(ended[..., None], fresh, physical)
        seen, age = world.observe(physical), age * ~ended
    parts = (physical, age, seen, reward, terminated, truncated, final)
    place = torch.from_numpy if here else _all
    made: list[Tensor] = [place(part) for part in parts]
    return State(*made[:2]), Outcome(*made[2:])


@torch.no_grad()
def evaluate(
    world: World,
    act: Callable[[Tensor], Tensor],
    shape: Shape,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Evaluation:
    """Return the returns of exactly so many whole episodes.

    Every episode has an environment of its own, which is watched until its first end.
    So long episodes count as often as short ones; the first so many episodes to end in
    a few environments would be a sample of the short ones.

    Parameters
    ----------
    world : World
        The task.
    act : callable
        Maps an observation (..., O) to an action, greedy or sampled as you like.
    shape : int or tuple of int
        The number of episodes, or a shape such as (N, episodes).
    generator : torch.Generator
        Source of the starts.
    dtype : torch.dtype
        ``torch.float32`` or ``torch.float64``.

    Returns
    -------
    Evaluation
        ``(returns, lengths)``, each of the shape asked; undiscounted.

    Raises
    ------
    ValueError
        As :func:`reset` and :func:`step`.

    Examples
    --------
    >>> def push_right(seen):
    ...     return torch.ones(seen.shape[:-1], dtype=torch.int64)
    >>> found = evaluate(CARTPOLE, push_right, 3, torch.Generator().manual_seed(0))
    >>> found.returns.shape, bool((found.returns == found.lengths).all())
    (torch.Size([3]), True)
    """
    state, seen = reset(world, shape, generator, dtype)
    running = torch.ones_like(state.age, dtype=torch.bool)
    lengths, returns = torch.zeros_like(state.age), torch.zeros_like(seen[..., 0])
    for _ in range(world.limit):
        state, out = step(world, state, act(seen), generator)
        seen = out.observation
        returns += torch.where(running, out.reward, 0.0)
        lengths += running
        running &= ~(out.terminated | out.truncated)
        if not running.any():
            break
    return Evaluation(returns, lengths)
