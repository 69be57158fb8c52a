"""MinAtar Seaquest: a submarine shoots fish and enemy submarines (+1 each) and brings divers to the surface.

Fish, submarines (one in three of both), and divers cross the eight middle rows; enemies in one row all go one way, and
enemy submarines shoot. Touching an enemy or its shot ends the episode. Below the surface oxygen goes down: without any
the episode ends. Surfacing with divers fills it up and takes one diver; with six it takes them all and rewards each
full tenth of oxygen left; with none it ends the episode. With difficulty ramping, each surfacing makes the enemies come
and move more often.

In the package, which this follows, surfacing with six divers leaves -1 of them: then surfacing is free until a diver
comes aboard.

Observation: the submarine's front and back, its shots, the cells behind what crosses, enemy shots, fish, enemy
submarines, a bar of oxygen, a bar of divers, divers in the water.
"""

from __future__ import annotations

from velodrome.envs.simulators.counter_random import uniform_pair
from velodrome.envs.simulators.kernel import kernel
from velodrome.envs.simulators.minatar.common import (
    DOWN,
    FIRE,
    LEFT,
    NOTHING,
    RAMPING,
    RIGHT,
    SIZE,
    UP,
    game,
    sticky_action,
)
from velodrome.envs.simulators.minatar.crossing import (
    ONE_SHOT_STEP,
    ONE_STEP,
    PLACE,
    RIGHTWARDS,
    append,
    draw_things,
    from_side,
    is_any_against,
    leaves,
    moved,
    place,
    remove,
    remove_at,
    steps_to_move,
    steps_to_shoot,
)
from velodrome.envs.simulators.simulator import Bools, Counts, Floats, Keys

(_ACTION, _X, _Y, _FACES_RIGHT, _AT_SURFACE, _OXYGEN, NUM_ABOARD, _SHOT_TIMER, _SPAWN_TIMER, _DIVER_TIMER,
 SPAWN_EVERY, MOVE_WAIT, _NUM_RAMPS, _SHOTS) = range(14)
# The most there can be: an enemy is there for at most 30 steps once one comes every 13 steps or more often, and for 60
# before; it has one shot in the water at most. The others come every 30 steps and every 5, and stay for 60 and for 10.
_MAX_SHOTS, _MAX_DIVERS, MAX_ENEMIES = 3, 4, 36
_DIVERS = _SHOTS + 1 + _MAX_SHOTS
FISH = _DIVERS + 1 + _MAX_DIVERS
SUBS = FISH + 1 + MAX_ENEMIES
ENEMY_SHOTS = SUBS + 1 + MAX_ENEMIES
_NUM_VARIABLES = ENEMY_SHOTS + 1 + MAX_ENEMIES

_LAST_ROW = SIZE - 2
_MAX_OXYGEN, _MAX_ABOARD = 200, 6
# Every: steps from one to the next. Wait: steps between, in which nothing happens.
_SHOT_EVERY, _ENEMY_SHOT_WAIT, _DIVER_EVERY, _DIVER_MOVE_WAIT = 5, 10, 30, 5
_FIRST_SPAWN_EVERY, _FIRST_MOVE_WAIT, _LEAST_MOVE_WAIT = 20, 5, 2
_SUB_PROB = 1.0 / 3.0


@kernel
def advance(
    state: Counts, actions: Counts, obs: Bools, reward: Floats, terminated: Bools, keys: Keys, counts: Counts,
    options: Floats, lo: int, hi: int,
) -> None:
    """One step: what comes, the player, its shots, divers, submarines, their shots, fish, then oxygen."""
    for i in range(lo, hi):
        action = sticky_action(state[_ACTION, i], actions[i], keys, counts, options, i)
        state[_ACTION, i] = action
        if state[_SPAWN_TIMER, i] == 0:
            spawn_enemy(state, keys, counts, i)
            state[_SPAWN_TIMER, i] = state[SPAWN_EVERY, i]
        if state[_DIVER_TIMER, i] == 0:
            u, v = uniform_pair(keys, counts, i)
            diver = from_side(u < 0.5, 1 + int(v * _LAST_ROW)) + _DIVER_MOVE_WAIT * ONE_STEP
            append(state, _DIVERS, _MAX_DIVERS, diver, i)
            state[_DIVER_TIMER, i] = _DIVER_EVERY
        act(state, action, i)
        gained = move_shots(state, i)
        move_divers(state, i)
        from_subs, hit_by_sub = move_enemies(state, SUBS, True, i)
        hit_by_shot = move_enemy_shots(state, i)
        from_fish, hit_by_fish = move_enemies(state, FISH, False, i)
        from_divers, drowned = breathe(state, options[RAMPING] != 0.0, i)
        reward[i] = gained + from_subs + from_fish + from_divers
        terminated[i] = hit_by_sub or hit_by_shot or hit_by_fish or drowned
        state[_SPAWN_TIMER, i] -= 1
        state[_DIVER_TIMER, i] -= 1
        state[_SHOT_TIMER, i] -= state[_SHOT_TIMER, i] > 0
        draw(state, obs, i)


@kernel
def spawn_enemy(state: Counts, keys: Keys, counts: Counts, i: int) -> None:
    """A fish or a submarine, unless an enemy comes the other way in the row that is drawn."""
    u, is_sub = uniform_pair(keys, counts, i)
    v, _ = uniform_pair(keys, counts, i)
    enemy = from_side(u < 0.5, 1 + int(v * _LAST_ROW)) + state[MOVE_WAIT, i] * ONE_STEP
    if is_any_against(state, FISH, enemy, i) or is_any_against(state, SUBS, enemy, i):
        return
    if is_sub < _SUB_PROB:
        append(state, SUBS, MAX_ENEMIES, enemy + _ENEMY_SHOT_WAIT * ONE_SHOT_STEP, i)
    else:
        append(state, FISH, MAX_ENEMIES, enemy, i)


@kernel
def act(state: Counts, action: int, i: int) -> None:
    """The player moves or shoots."""
    if action == LEFT:
        state[_X, i], state[_FACES_RIGHT, i] = max(0, state[_X, i] - 1), 0
    elif action == RIGHT:
        state[_X, i], state[_FACES_RIGHT, i] = min(SIZE - 1, state[_X, i] + 1), 1
    elif action == UP:
        state[_Y, i] = max(0, state[_Y, i] - 1)
    elif action == DOWN:
        state[_Y, i] = min(_LAST_ROW, state[_Y, i] + 1)
    elif action == FIRE and state[_SHOT_TIMER, i] == 0:
        state[_SHOT_TIMER, i] = _SHOT_EVERY
        shot = place(state[_X, i], state[_Y, i]) | (RIGHTWARDS if state[_FACES_RIGHT, i] else 0)
        append(state, _SHOTS, _MAX_SHOTS, shot, i)


@kernel
def move_shots(state: Counts, i: int) -> float:
    """The player's shots, the newest first; one shot hits one enemy, a fish before a submarine. Returns the reward."""
    gained = 0.0
    for k in range(state[_SHOTS, i] - 1, -1, -1):
        shot = state[_SHOTS + 1 + k, i]
        if leaves(shot):
            remove(state, _SHOTS, k, i)
            continue
        shot = moved(shot)
        state[_SHOTS + 1 + k, i] = shot
        if remove_at(state, FISH, shot & PLACE, i) or remove_at(state, SUBS, shot & PLACE, i):
            remove(state, _SHOTS, k, i)
            gained += 1.0
    return gained


@kernel
def move_divers(state: Counts, i: int) -> None:
    """Divers, the newest first; one that is at the player's place before or after it moves is taken aboard."""
    player = place(state[_X, i], state[_Y, i])
    for k in range(state[_DIVERS, i] - 1, -1, -1):
        diver = state[_DIVERS + 1 + k, i]
        has_room = state[NUM_ABOARD, i] < _MAX_ABOARD
        is_met = has_room and diver & PLACE == player
        is_gone = False
        if not is_met:
            if steps_to_move(diver) > 0:
                diver -= ONE_STEP
            elif leaves(diver):
                is_gone = True
            else:
                diver = moved(diver) + _DIVER_MOVE_WAIT * ONE_STEP
                is_met = has_room and diver & PLACE == player
        if is_met:
            state[NUM_ABOARD, i] += 1
        if is_met or is_gone:
            remove(state, _DIVERS, k, i)
        else:
            state[_DIVERS + 1 + k, i] = diver


@kernel
def move_enemies(state: Counts, base: int, do_shoot: bool, i: int) -> tuple[float, bool]:
    """Fish or submarines, the newest first; one that moves into a shot is hit.

    Returns:
        The reward, and whether one was at the player's place before or after it moved.
    """
    gained, has_met = 0.0, False
    player = place(state[_X, i], state[_Y, i])
    for k in range(state[base, i] - 1, -1, -1):
        enemy = state[base + 1 + k, i]
        is_hit = False
        has_met |= enemy & PLACE == player
        if steps_to_move(enemy) > 0:
            enemy -= ONE_STEP
        elif leaves(enemy):
            remove(state, base, k, i)
            continue
        else:
            enemy = moved(enemy) + state[MOVE_WAIT, i] * ONE_STEP
            if enemy & PLACE == player:
                has_met = True
            else:
                is_hit = remove_at(state, _SHOTS, enemy & PLACE, i)
        if do_shoot:
            if steps_to_shoot(enemy) == 0:
                enemy += _ENEMY_SHOT_WAIT * ONE_SHOT_STEP
                append(state, ENEMY_SHOTS, MAX_ENEMIES, enemy & (PLACE | RIGHTWARDS), i)
            else:
                enemy -= ONE_SHOT_STEP
        if is_hit:
            gained += 1.0
            remove(state, base, k, i)
        else:
            state[base + 1 + k, i] = enemy
    return gained, has_met


@kernel
def move_enemy_shots(state: Counts, i: int) -> bool:
    """Returns whether one was at the player's place before or after it moved."""
    player, has_met = place(state[_X, i], state[_Y, i]), False
    for k in range(state[ENEMY_SHOTS, i] - 1, -1, -1):
        shot = state[ENEMY_SHOTS + 1 + k, i]
        has_met |= shot & PLACE == player
        if leaves(shot):
            remove(state, ENEMY_SHOTS, k, i)
        else:
            shot = moved(shot)
            has_met |= shot & PLACE == player
            state[ENEMY_SHOTS + 1 + k, i] = shot
    return has_met


@kernel
def breathe(state: Counts, ramping: bool, i: int) -> tuple[float, bool]:
    """Less oxygen below the surface, and what happens on coming up: too late in the step after the last oxygen.

    Returns:
        The reward, and whether the episode ends.
    """
    is_too_late = state[_OXYGEN, i] <= 0
    if state[_Y, i] > 0:
        state[_OXYGEN, i] -= 1
        state[_AT_SURFACE, i] = 0
        return 0.0, is_too_late
    if state[_AT_SURFACE, i]:
        return 0.0, False
    if state[NUM_ABOARD, i] == 0:
        return 0.0, True
    gained = 0.0
    if state[NUM_ABOARD, i] == _MAX_ABOARD:
        gained = float(state[_OXYGEN, i] * SIZE // _MAX_OXYGEN)
        state[NUM_ABOARD, i] = 0
    state[NUM_ABOARD, i] -= 1
    state[_AT_SURFACE, i], state[_OXYGEN, i] = 1, _MAX_OXYGEN
    if ramping and (state[SPAWN_EVERY, i] > 1 or state[MOVE_WAIT, i] > _LEAST_MOVE_WAIT):
        if state[MOVE_WAIT, i] > _LEAST_MOVE_WAIT and state[_NUM_RAMPS, i] % 2 == 1:
            state[MOVE_WAIT, i] -= 1
        if state[SPAWN_EVERY, i] > 1:
            state[SPAWN_EVERY, i] -= 1
        state[_NUM_RAMPS, i] += 1
    return gained, is_too_late


@kernel
def begin(state: Counts, keys: Keys, counts: Counts, obs: Bools, restart: Bools, lo: int, hi: int) -> None:
    """The player at the surface with all oxygen, and nothing else."""
    for i in range(lo, hi):
        if restart[i]:
            state[_ACTION, i] = NOTHING
            state[_X, i], state[_Y, i], state[_FACES_RIGHT, i], state[_AT_SURFACE, i] = 5, 0, 0, 1
            state[_OXYGEN, i], state[NUM_ABOARD, i], state[_SHOT_TIMER, i] = _MAX_OXYGEN, 0, 0
            state[_SPAWN_TIMER, i] = state[SPAWN_EVERY, i] = _FIRST_SPAWN_EVERY
            state[_DIVER_TIMER, i], state[MOVE_WAIT, i], state[_NUM_RAMPS, i] = _DIVER_EVERY, _FIRST_MOVE_WAIT, 0
            for base in (_SHOTS, _DIVERS, FISH, SUBS, ENEMY_SHOTS):
                state[base, i] = 0
            draw(state, obs, i)


@kernel
def draw(state: Counts, obs: Bools, i: int) -> None:
    """The observation."""
    obs[i] = False
    x, y = state[_X, i], state[_Y, i]
    obs[i, y, x, 0] = True
    obs[i, y, x - 1 if state[_FACES_RIGHT, i] else x + 1, 1] = True
    draw_things(state, _SHOTS, obs, 2, -1, i)
    draw_things(state, ENEMY_SHOTS, obs, 4, -1, i)
    draw_things(state, FISH, obs, 5, 3, i)
    draw_things(state, SUBS, obs, 6, 3, i)
    draw_things(state, _DIVERS, obs, 9, 3, i)
    for k in range(state[_OXYGEN, i] * SIZE // _MAX_OXYGEN):
        obs[i, SIZE - 1, k, 7] = True
    for k in range(state[NUM_ABOARD, i]):
        obs[i, SIZE - 1, SIZE - 2 - k, 8] = True


SEAQUEST = game("Seaquest", num_channels=10, num_actions=6, num_variables=_NUM_VARIABLES, advance=advance, begin=begin)
