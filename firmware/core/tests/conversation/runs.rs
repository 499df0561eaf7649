//! Runs: what is told of them, told again, cancelled, and refused.

use edgeprof_link::{FailCode, FromBoard, List, Record, RunRequest, Stop, ToBoard, Work};

use super::bench::{Bench, accepted, failed, noise, request, told};

#[test]
fn a_run_is_told_interval_by_interval() {
    let mut bench = Bench::new(noise(), 10_000);
    assert_eq!(bench.say(&ToBoard::Ping { nonce: 9 }), [FromBoard::Pong { nonce: 9, session: 77 }]);
    let said = bench.run(request(5, 3, 3), &[1, 2, 3]);
    let said = told(5, &said);
    let interval = |work| Record::Interval { work, ticks: 100 };
    let ids: Vec<u32> = said
        .iter()
        .filter_map(|what| if let Record::Token { id, .. } = what { Some(*id) } else { None })
        .collect();
    let token = |index: u32| Record::Token { index, id: ids[index as usize] };
    let prefill = interval(Work::Prefill { tokens: 1 });
    assert_eq!(
        said[..9],
        [
            interval(Work::Load),
            prefill,
            prefill,
            prefill,
            token(0),
            interval(Work::Decode { index: 1 }),
            token(1),
            interval(Work::Decode { index: 2 }),
            token(2),
        ]
    );
    let [Record::Done { generated: 3, stop: Stop::Length, logits_hash, .. }] = said[9..] else {
        panic!("{said:?}")
    };
    // The same again gives the same hash, and with uncounted tokens too, but less intervals.
    let again = bench.run(RunRequest { uncounted: 2, ..request(6, 3, 3) }, &[1, 2, 3]);
    let again = told(6, &again);
    assert_eq!(again.len(), said.len() - 2);
    assert!(
        matches!(again.last(), Some(Record::Done { logits_hash: same, .. }) if *same == logits_hash),
        "{again:?}"
    );
}

#[test]
fn what_was_not_heard_is_told_again_and_waited_for() {
    let mut bench = Bench::new(noise(), 10_000);
    bench.wire.ear.borrow_mut().deaf = true;
    assert_eq!(bench.say(&ToBoard::Run(request(5, 1, 4))), accepted(5, 0));
    let tokens = List::from_slice(&[1]).unwrap();
    assert_eq!(bench.say(&ToBoard::Prompt { run: 5, offset: 0, tokens }), accepted(5, 1));
    // After seven of ten records there is no room for two more: the host asks for all, then has heard them.
    let heard = |next, again| ToBoard::Heard { run: 5, next, again };
    let words = [bench.frame(&heard(0, true)), bench.frame(&heard(7, false))];
    bench.wire.on_wait.borrow_mut().extend(words);
    let said = bench.say(&ToBoard::Go { run: 5 });
    let number = |message: &FromBoard| match message {
        FromBoard::Record { number, .. } => *number,
        other => panic!("{other:?}"),
    };
    let numbers: Vec<u32> = said.iter().map(number).collect();
    assert_eq!(numbers, (0..7).chain(0..10).collect::<Vec<_>>());
    // The end was lost: a `Go`, or a `Heard`, brings what was not acknowledged once more.
    let said = bench.say(&ToBoard::Go { run: 5 });
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(matches!(said[2], FromBoard::Record { number: 9, what: Record::Done { generated: 4, .. }, .. }));
    assert_eq!(bench.say(&heard(9, true)), said[2..]);
    assert_eq!(bench.say(&heard(10, true)), []);
}

#[test]
fn a_new_host_ends_the_run_that_it_knows_nothing_of() {
    let mut bench = Bench::new(noise(), 10_000);
    bench.wire.ear.borrow_mut().deaf = true;
    assert_eq!(bench.say(&ToBoard::Run(request(5, 1, 9))), accepted(5, 0));
    let tokens = List::from_slice(&[1]).unwrap();
    assert_eq!(bench.say(&ToBoard::Prompt { run: 5, offset: 0, tokens }), accepted(5, 1));
    let words = [bench.frame(&ToBoard::Ping { nonce: 1 }), bench.frame(&ToBoard::Hello)].concat();
    *bench.wire.on_write.borrow_mut() = words;
    let said = bench.say(&ToBoard::Go { run: 5 });
    assert!(said.contains(&FromBoard::Pong { nonce: 1, session: 77 }), "{said:?}");
    assert!(matches!(told(5, &said).last(), Some(Record::Done { stop: Stop::Cancelled, .. })), "{said:?}");
    assert!(matches!(bench.say(&ToBoard::Hello)[..], [FromBoard::Hello(_)]));
}

#[test]
fn while_a_run_goes_the_line_is_answered() {
    let mut bench = Bench::new(noise(), 10_000);
    let mut words = bench.frame(&ToBoard::Run(request(6, 1, 1)));
    words.extend(bench.frame(&ToBoard::Ping { nonce: 4 }));
    words.extend(bench.frame(&ToBoard::Cancel { run: 6 }));
    words.extend(bench.frame(&ToBoard::Cancel { run: 5 }));
    assert_eq!(bench.say(&ToBoard::Run(request(5, 1, 9))), accepted(5, 0));
    let tokens = List::from_slice(&[1]).unwrap();
    assert_eq!(bench.say(&ToBoard::Prompt { run: 5, offset: 0, tokens }), accepted(5, 1));
    *bench.wire.on_write.borrow_mut() = words;
    let said = bench.say(&ToBoard::Go { run: 5 });
    assert!(said.contains(&FromBoard::Failed { run: 6, code: FailCode::Busy }), "{said:?}");
    assert!(said.contains(&FromBoard::Pong { nonce: 4, session: 77 }), "{said:?}");
    let told = told(5, &said);
    assert!(
        matches!(told.last(), Some(Record::Done { generated: 1, stop: Stop::Cancelled, .. })),
        "{told:?}"
    );
}

#[test]
fn a_run_is_cancelled_in_the_middle_of_its_prompt() {
    for uncounted in [0, 8] {
        let mut bench = Bench::new(noise(), 10_000);
        let words = bench.frame(&ToBoard::Cancel { run: 5 });
        let request = RunRequest { uncounted, ..request(5, 9, 2) };
        assert_eq!(bench.say(&ToBoard::Run(request)), accepted(5, 0));
        let tokens = List::from_slice(&[1; 9]).unwrap();
        assert_eq!(bench.say(&ToBoard::Prompt { run: 5, offset: 0, tokens }), accepted(5, 9));
        // It is there as soon as the load was told of.
        *bench.wire.on_write.borrow_mut() = words;
        let said = bench.say(&ToBoard::Go { run: 5 });
        assert_eq!(said.len(), if uncounted == 0 { 3 } else { 2 }, "{said:?}");
        assert!(
            matches!(told(5, &said).last(), Some(Record::Done { generated: 0, stop: Stop::Cancelled, .. })),
            "{said:?}"
        );
    }
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let mut bench = Bench::new(noise(), 10_000);
    let over = RunRequest { ctx: 99, ..request(1, 17, 1) };
    assert_eq!(bench.say(&ToBoard::Run(over)), failed(1, FailCode::PromptTooLong { max: 16 }));
    assert_eq!(bench.say(&ToBoard::Run(request(1, 0, 1))), failed(1, FailCode::BadRequest));
    let nan = RunRequest { temperature: f32::NAN, ..request(1, 1, 1) };
    assert_eq!(bench.say(&ToBoard::Run(nan)), failed(1, FailCode::BadRequest));
    assert_eq!(bench.say(&ToBoard::Go { run: 1 }), failed(1, FailCode::UnknownRun));
    // Prompts with a hole, and too long, change nothing; one that is incomplete does not run; one of no run.
    let tokens = List::from_slice(&[1, 2]).unwrap();
    for (offset, count) in [(1, 4), (0, 1)] {
        bench.say(&ToBoard::Run(request(2, count, 1)));
        let answer = FromBoard::Accepted { run: 2, received: 0, gap: offset > 0 };
        assert_eq!(bench.say(&ToBoard::Prompt { run: 2, offset, tokens }), [answer]);
    }
    bench.say(&ToBoard::Run(request(3, 4, 1)));
    assert_eq!(bench.say(&ToBoard::Prompt { run: 3, offset: 0, tokens }), accepted(3, 2));
    assert_eq!(bench.say(&ToBoard::Go { run: 3 }), failed(3, FailCode::BadRequest));
    let said = bench.say(&ToBoard::Prompt { run: 4, offset: 0, tokens });
    assert_eq!(said, failed(4, FailCode::UnknownRun));
    // A token that the model does not have: the load was fine, the run is not.
    let said = bench.run(request(5, 1, 1), &[4_000]);
    assert_eq!(told(5, &said)[1..], [Record::Failed { code: FailCode::BadRequest }]);
}
