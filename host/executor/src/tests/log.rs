// SPDX-License-Identifier: Apache-2.0

//! The Keep's log and its end.

use super::*;

#[test]
fn an_exit_comes_after_what_was_printed() {
    let (mut reader, writer) = pipe().unwrap();
    let mut keep = Keep::new([null(), writer.into(), null()], &[]);
    let bytes = vec![1; 131_072];
    keep.submit(&write(Handle::STDOUT, &bytes), &bytes);
    keep.submit(&Call::Exit { code: 7 }, b"");
    assert_eq!(keep.executor.drain_all().unwrap(), Progress::Idle);
    let collector = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all.len()
    });
    let progress = loop {
        match keep.executor.wait(0, Until::Completion, NO_LIMIT).unwrap() {
            Progress::Idle | Progress::More => {}
            exit @ Progress::Exit(_) => break exit,
        }
    };
    assert_eq!(progress, Progress::Exit(7));
    assert_eq!(keep.executor.drain().unwrap(), Progress::Exit(7));
    drop(keep);
    assert_eq!(collector.join().unwrap(), 131_072);
}

#[test]
fn the_keeps_log_cannot_steer_a_terminal() {
    let (mut reader, writer) = pipe().unwrap();
    let mut keep = Keep::new([null(), null(), writer.into()], &[]);
    let text = b"a\x1b[2Jb\nc";
    let call = Call::LogWrite {
        level: enarx_sallyport::types::Level::Warn,
        length: 8,
    };
    keep.call(&call, text).unwrap();
    drop(keep);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    assert_eq!(all, "enarx: keep: a [2Jb c\n");
}

#[test]
fn last_words_end_with_their_line() {
    for (words, printed) in [
        (&["memory allocation of "][..], "memory allocation of \n"),
        (&["one\n", "two\x1b", "\n"], "one\ntwo \n"),
        (&["", "\n", ""], "\n"),
        (&[], ""),
    ] {
        let (mut reader, writer) = pipe().unwrap();
        let keep = Keep::new([null(), null(), writer.into()], &[]);
        for part in words {
            keep.executor.log_last_words(part.as_bytes());
        }
        // The second time there is nothing to end.
        keep.executor.finish_log();
        keep.executor.finish_log();
        drop(keep);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, printed);
    }
}
