// SPDX-License-Identifier: Apache-2.0

//! Sleeping, waking, and the ends of both.

use super::*;

#[test]
fn a_wait_ends_in_time_and_a_pending_request_can_be_cancelled() {
    let (reader, _writer) = pipe().unwrap();
    let mut keep = Keep::new([reader.into(), null(), null()], &[]);
    let ticket = keep.submit(&read_stdin(10), b"");
    let start = Instant::now();
    let seen = keep.end.completions_seen();
    keep.executor
        .wait(seen, Until::Completion, Some(Duration::from_millis(60)))
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert!(keep.end.reap().unwrap().is_none());

    keep.submit(&Call::Cancel { id: ticket.id() }, b"");
    let (first, _) = keep.reply();
    let (second, _) = keep.reply();
    assert_eq!((first.ticket, first.status), (ticket, Status::Cancelled));
    assert_eq!(second.status, Status::Ok);
    // Nothing with that number waits any more.
    keep.call(&Call::Cancel { id: ticket.id() }, b"").unwrap();
}

#[test]
fn another_threads_drain_and_an_interrupt_wake_the_sleeper() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let seen = keep.end.completions_seen();
    let Keep { end, executor, .. } = &mut keep;
    let executor = &*executor;
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| executor.wait(seen, Until::Completion, NO_LIMIT).unwrap());
        thread::sleep(ASLEEP);
        assert!(!sleeper.is_finished());
        end.submit(&Call::ClockWall, &[]).unwrap();
        assert_eq!(executor.drain_all().unwrap(), Progress::Idle);
        assert_eq!(sleeper.join().unwrap(), Progress::Idle);

        let seen = executor.completions_posted();
        let sleepers = [(); 2].map(|()| {
            scope.spawn(move || executor.wait(seen, Until::Completion, NO_LIMIT).unwrap())
        });
        thread::sleep(ASLEEP);
        let start = Instant::now();
        executor.interrupt();
        for sleeper in sleepers {
            assert_eq!(sleeper.join().unwrap(), Progress::Idle);
        }
        // And no later wait sleeps.
        executor.wait(seen, Until::Completion, NO_LIMIT).unwrap();
        assert!(start.elapsed() < PATIENCE);
    });
}

#[test]
fn threads_sleep_where_the_system_gives_no_descriptors() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let seen = keep.end.completions_seen();
    let Keep { end, executor, .. } = &mut keep;
    let executor = &*executor;
    thread::scope(|scope| {
        let sleepers = [(); 2].map(|()| {
            scope.spawn(|| {
                let calls = [libc::SYS_ppoll, libc::SYS_read, libc::SYS_close];
                let allowed = seccomp::thread().chain(seccomp::calls(&calls));
                let used_up = SeccompAction::Errno(libc::EMFILE.cast_unsigned());
                seccomp::apply(&seccomp::compile(allowed, used_up).unwrap()).unwrap();
                // A sleep may end early, as by a signal.
                while !executor.has_completed(seen, Until::Completion) {
                    let progress = executor.wait(seen, Until::Completion, NO_LIMIT);
                    assert_eq!(progress.unwrap(), Progress::Idle);
                }
            })
        });
        thread::sleep(ASLEEP);
        assert!(!sleepers.iter().any(thread::ScopedJoinHandle::is_finished));
        let start = Instant::now();
        end.submit(&Call::ClockWall, &[]).unwrap();
        assert_eq!(executor.drain_all().unwrap(), Progress::Idle);
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        assert!(start.elapsed() < PATIENCE);
    });
}

#[test]
fn a_step_is_bounded_and_none_is_taken_once_the_keep_is_being_ended() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    for _ in 0..STEP {
        keep.end.submit(&Call::ClockWall, &[]).unwrap();
    }
    // All of them, or as many as a millisecond allows; it is unknown if more remain.
    let mut steps = 1;
    while keep.executor.drain().unwrap() == Progress::More {
        steps += 1;
    }
    assert!(steps >= 2);
    assert_eq!(keep.executor.completions_posted(), STEP);
    for _ in 0..STEP {
        let reply = keep.end.reap().unwrap().unwrap();
        keep.end.release(reply.ticket);
    }
    keep.executor.interrupt();
    keep.end.submit(&Call::ClockWall, &[]).unwrap();
    assert_eq!(keep.executor.drain_all().unwrap(), Progress::Idle);
    assert_eq!(keep.executor.completions_posted(), STEP);
}

#[test]
fn an_interruption_waits_for_no_lock() {
    let Keep { executor, .. } = Keep::new([null(), null(), null()], &[]);
    thread::scope(|scope| {
        // Like a thread that hangs in a system call.
        let held = executor.lock();
        let other = scope.spawn(|| {
            executor.interrupt();
            executor.finish_log();
            executor.wait(0, Until::Completion, NO_LIMIT).unwrap()
        });
        let start = Instant::now();
        while !other.is_finished() && start.elapsed() < PATIENCE {
            thread::yield_now();
        }
        assert!(other.is_finished(), "it waits for the lock");
        drop(held);
        assert_eq!(other.join().unwrap(), Progress::Idle);
    });
}

#[test]
fn a_request_made_while_a_thread_sleeps_is_waited_for_by_it() {
    let (reader, mut writer) = pipe().unwrap();
    let mut keep = Keep::new([reader.into(), null(), null()], &[]);
    let seen = keep.end.completions_seen();
    let Keep { end, executor, .. } = &mut keep;
    let executor = &*executor;
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| executor.wait(seen, Until::Completion, NO_LIMIT).unwrap());
        thread::sleep(ASLEEP);
        end.submit(&read_stdin(10), &[]).unwrap();
        executor.drain().unwrap();
        thread::sleep(ASLEEP);
        assert!(!sleeper.is_finished());
        writer.write_all(b"x").unwrap();
        assert_eq!(sleeper.join().unwrap(), Progress::Idle);
    });
    assert!(keep.end.reap().unwrap().is_some());
}

#[test]
fn a_keep_that_is_polled_for_takes_its_answers_without_a_step() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let seen = keep.end.completions_seen();
    keep.submit(&Call::ClockWall, b"");
    let is_served = |keep: &Keep, seen: u32| keep.executor.is_served(seen, Until::Completion);
    keep.executor.set_polling(true);
    assert!(!is_served(&keep, seen), "nothing is answered");
    assert_eq!(keep.executor.drain_all().unwrap(), Progress::Idle);
    assert!(is_served(&keep, seen));
    assert!(!is_served(&keep, keep.executor.completions_posted()));
    // Without a polling thread, the caller has to perform what else is posted.
    keep.executor.set_polling(false);
    assert!(!is_served(&keep, seen));
}
