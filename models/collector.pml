/* SPDX-License-Identifier: MIT */
/*
 * Who collects: a thread that waits for what has ended returns, and what nobody waits for is collected too, without any of the
 * bounds that sleeps have.
 *
 *   threads  pp__wait, step, take_duty, sleep_on_word, pass_duty_on, call_manager, pp__subject_wake, pp__wait_look
 *            (src/pool/wait.c), pp__collect_spin, pp__collect_leave (src/pool/collect.c)
 *   manager  manage, doze (src/pool/wait.c)
 *   both     sleep_for_events (src/pool/collect.c)
 *
 * An atomic sequence is a hold of the pool's lock. Here the worker publishes and rings in one step, once for each sleep, and
 * a ring that comes before the manager has fallen into its nap is kept (there it ends with the nap). A thread may look at the
 * rings without the lock before it sleeps.
 *
 * There are no store buffers here, as nothing is left for them to delay: `want` and the rings are the only words that are shared
 * without the lock and not looked at again under it, and each side has a fence between its store and its look. Those are
 * in want.pml, and in way.pml that of pp__collect_leave, with store buffers, and with mutants that leave them out.
 *
 * Two threads nap once in their wait if they like. Whether one is woken for its result, or given the duty, while it does so is
 * anybody's guess; a nap ends at any time.
 *
 * Two threads wait for future 0; one waits for future 1, with a deadline that passes at any time, and then nobody does.
 * Future 0 may be one whose call no worker has, and which another thread ends, as pp_future_cancel does.
 *
 * mutant 1: a waiter that times out after it was given the duty does not pass it on
 * mutant 2: a collector whose future has ended does not pass the duty on
 * mutant 3: a manager that was relieved takes the events of the thread that relieved it
 * mutant 4: who leaves last does not call a manager that sleeps sound
 * mutant 5: who leaves last does not kick a manager that is still in epoll
 * mutant 6: a collector in epoll is not kicked when another thread ends its future
 * mutant 7: a thread that takes the duty from the manager does not relieve it
 * mutant 8: a manager that was called before is not kicked again, though another may have cleared the kick
 * mutant 9: a thread that spun in vain sleeps without looking whether somebody ended its future meanwhile
 * mutant 10: a worker that runs dry does not wake the manager from the nap in which it was left
 * mutant 11: who leaves the manager in its nap does not look behind the word that says so
 * mutant 12: a manager that was relieved does not pass on that a bell was rung, of which it was told
 * mutant 13: who has napped leaves without a look whether anybody has the duty
 * mutant 14: the duty is left to who naps, though another sleeps
 */
#ifndef MUTANT
#define MUTANT 0
#endif

#define THREADS 3
#define FUTURES 2
#define NOBODY 255
#define FUTURE(thread) (thread % 2)
#define HAS_DEADLINE(thread) (thread == 1)
#define MAY_NAP(thread) (thread != 2)

#define NOTHING 0
#define ATTENTION 1
#define EVERY 2

bool published[FUTURES], done[FUTURES];
byte want;       /* NOTHING, too, once it was rung for this sleep */
bool bell;       /* rung, and nobody has been told (by edges: one is, once) */
bool kick;       /* an eventfd */
bool look;       /* collector.look is not what the spinner saw at first */
bool work;       /* something is pending, or the pool is shut */
bool cancels;    /* future 0 is ended by another thread */

/* struct pp__collector; `busy` is leaves != leaves_seen, `manager_word` whether the word has grown since it was read */
byte collector = NOBODY;
bool manager, asleep, spinning, busy;
bool manager_word, manager_called, manager_in_epoll, manager_sound, manager_naps, left;
chan waiters = [THREADS] of { byte };
bool word[THREADS], waits[THREADS], naps[THREADS];

#define sleeps(thread) (waiters ?? [eval(thread)] && !naps[thread])
#define somebody_sleeps (sleeps(0) || sleeps(1) || sleeps(2))
#define somebody_naps (naps[0] || naps[1] || naps[2])
#define somebody_if_waiters assert(collector != NOBODY || !somebody_sleeps)

inline ask(mode)
{
    left = false;
    want = mode
}

inline wake_thread(thread, future)
{
    if
    :: waits[thread] && FUTURE(thread) == future && collector != thread -> word[thread] = true
    :: waits[thread] && FUTURE(thread) == future && collector != thread && naps[thread]
    :: waits[thread] && FUTURE(thread) == future && collector == thread && spinning -> look = true
    :: waits[thread] && FUTURE(thread) == future && collector == thread && asleep ->
#if MUTANT != 6
        kick = true
#else
        skip
#endif
    :: else
    fi
}

inline subject_wake(future)
{
    wake_thread(0, future);
    wake_thread(1, future);
    wake_thread(2, future)
}

inline collect_one(future)
{
    if
    :: published[future] && !done[future] -> done[future] = true; subject_wake(future)
    :: else
    fi
}

inline collect()
{
    collect_one(0);
    collect_one(1)
}

#define uncollected (published[0] && !done[0] || published[1] && !done[1])

inline take_events()
{
    kick = kick && !saw_kick;
    saw_bell = false;
    saw_kick = false
}

inline wait_for_events()
{
    atomic { bell || kick -> saw_bell = bell; bell = false; saw_kick = kick }
}

inline leave_to_nap()
{
    left = true;
    want = ATTENTION;
#if MUTANT != 11
    collect()
#endif
}

inline call_manager()
{
#if MUTANT == 8
    kick = kick || manager_in_epoll && !manager_called;
#elif MUTANT != 5
    kick = kick || manager_in_epoll;
#endif
    manager_word = manager_word || !manager_called;
    manager_called = true
}

inline pass_duty_on()
{
    collector = NOBODY;
    asleep = false;
    busy = true;
    if
    :: len(waiters) > 0 -> waiters ? collector; word[collector] = true
    :: sleeps(0) -> waiters ?? eval(0); collector = 0; word[0] = true
    :: sleeps(1) -> waiters ?? eval(1); collector = 1; word[1] = true
    :: sleeps(2) -> waiters ?? eval(2); collector = 2; word[2] = true
#if MUTANT == 14
    :: somebody_naps
#else
    :: somebody_naps && !somebody_sleeps
#endif
    :: len(waiters) == 0 && !somebody_naps && work && manager_naps && !manager_called -> leave_to_nap()
#if MUTANT == 4
    :: len(waiters) == 0 && !somebody_naps && !(manager_naps && !manager_called) && (manager_in_epoll || work) -> call_manager()
#else
    :: len(waiters) == 0 && !somebody_naps && !(manager_naps && !manager_called) && (manager_sound || manager_in_epoll || work) -> call_manager()
#endif
    :: else
    fi
}

inline take_duty()
{
    if
    :: collector == NOBODY ->
        if
        :: left -> ask(NOTHING)
        :: else
        fi;
        if
        :: manager ->
#if MUTANT != 7
            manager = false;
            asleep = false;
#endif
            kick = true
        :: else
        fi;
        collector = me
    :: else
    fi
}

inline leave()
{
    waits[me] = false;
    naps[me] = false;
    if
    :: waiters ?? [eval(me)] -> waiters ?? eval(me)
    :: else
    fi;
    if
#if MUTANT == 1
    :: collector == me && !(late && given) -> pass_duty_on()
#elif MUTANT == 2
    :: collector == me && !done[FUTURE(me)] -> pass_duty_on()
#else
    :: collector == me -> pass_duty_on()
#endif
#if MUTANT != 13
    :: has_napped && collector == NOBODY && !manager -> pass_duty_on()
#endif
    :: else
    fi
}

inline fall_asleep()
{
    ask(EVERY);
    asleep = true
}

proctype thread(byte me)
{
    bool late, saw_bell, saw_kick, has_napped;
#if MUTANT == 9
    bool found;
#endif
#if MUTANT == 1
    bool given;
#endif
again:
    atomic {
        waits[me] = true;
        word[me] = false;
        if
        :: done[FUTURE(me)] || late -> goto out
        :: else
        fi;
        naps[me] = false;
        take_duty();
        if
        :: collector != me ->
            if
            :: waiters ?? [eval(me)]
            :: else -> waiters ! me
            fi;
            if
            :: MAY_NAP(me) && !has_napped -> has_napped = true; naps[me] = true
            :: true
            fi;
#if MUTANT == 1
            given = true;
#endif
            somebody_if_waiters;
            goto on_word
        :: else
        fi;
        if
        :: waiters ?? [eval(me)] -> waiters ?? eval(me)
        :: else
        fi;
#if MUTANT == 1
        given = false;
#endif
        collect();
        if
        :: done[FUTURE(me)] -> goto out
        :: else
        fi;
        if
        :: fall_asleep(); goto in_epoll
        :: spinning = true; look = false
        fi
    }
    /* What it sees without the lock, or that its time is over, brings it here. */
#if MUTANT == 9
    found = look;
#else
#define found look
#endif
    atomic {
        spinning = false;
        if
        :: found || uncollected -> look = false; goto again
        :: else -> look = false
        fi;
        fall_asleep()
    }
in_epoll:
    if
    :: wait_for_events()
    :: HAS_DEADLINE(me) -> late = true
    fi;
    atomic {
        asleep = false;
        ask(NOTHING);
        take_events();
        collect();
        goto again
    }
on_word:
    if
    :: word[me]
    :: naps[me]
    :: HAS_DEADLINE(me) -> late = true
    fi;
    goto again;
out:
    atomic { leave(); somebody_if_waiters; late = false; has_napped = false }
}

proctype the_manager()
{
    bool called, was_busy, saw_bell, saw_kick, lasts;
again:
    atomic {
        called = manager_called;
        was_busy = busy;
        manager_called = false;
        busy = false;
        if
        :: collector != NOBODY -> manager_word = false; manager_sound = !was_busy; manager_naps = was_busy; goto doze
        :: collector == NOBODY && was_busy && !(called && work) ->
            if
            :: left -> ask(NOTHING)
            :: else
            fi;
            manager_word = false;
            manager_naps = true;
            goto doze
        :: else
        fi;
        called = false;
        was_busy = false;
        collect();
        manager = true;
        ask(ATTENTION);
        asleep = true;
        manager_in_epoll = true
    }
end_epoll:
    wait_for_events();
    atomic {
        manager_in_epoll = false;
        if
        :: manager -> asleep = false; ask(NOTHING)
        :: else
        fi;
#if MUTANT != 3
        if
        :: manager -> take_events()
#if MUTANT != 12
        :: !manager && saw_bell && asleep -> kick = true; saw_bell = false; saw_kick = false
        :: !manager && !(saw_bell && asleep) -> saw_bell = false; saw_kick = false
#else
        :: else -> saw_bell = false; saw_kick = false
#endif
        fi;
#else
        take_events();
#endif
        collect();
        manager = false;
        goto again
    }
doze:
    if
    :: lasts = true /* a nap may last until the manager is left and woken */
    :: lasts = false
    fi;
end_doze:
    if
    :: manager_word
    :: !manager_sound && !(left && lasts)
    fi;
    atomic {
        manager_called = manager_called || left;
        manager_sound = false;
        manager_naps = false;
        lasts = false;
        called = false;
        was_busy = false;
        goto again
    }
}

/* A sleep that wants attention is ended when the worker has run dry, which it does at any time, and in the end. */
#define all_published ((published[0] || cancels) && published[1])

inline publish(future)
{
    published[future] = true;
    if
    :: want != NOTHING && !left -> bell = true; want = NOTHING
    :: want != NOTHING && left ->
#if MUTANT != 10
        manager_word = true;
#endif
        want = NOTHING
    :: want == ATTENTION && !all_published
    :: want == NOTHING
    fi
}

proctype worker()
{
    do
    :: atomic { !published[0] && !cancels -> publish(0) }
    :: atomic { !published[1] -> publish(1) }
    :: all_published -> break
    od
}

proctype canceller()
{
    if
    :: atomic { cancels -> done[0] = true; subject_wake(0) }
    :: !cancels
    fi
}

proctype monitor()
{
    done[0] && done[1]
}

init
{
    if
    :: work = true
    :: work = false
    fi;
    if
    :: cancels = true
    :: cancels = false
    fi;
    atomic {
        run the_manager();
        run worker();
        run canceller();
        run thread(0);
        run thread(1);
        run thread(2);
        run monitor()
    }
}
