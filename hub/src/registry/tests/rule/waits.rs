//! Single cases that random sequences rarely reach: calls that wait, capacities of admitted rows, and overdue rows.

use super::*;

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;
const ROOT: usize = 3;
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const P: usize = 3;

/// A change while a call waits.
type WaitEvent = fn(&mut Trial);

fn want(name: usize, of: Option<usize>) -> Want {
    Want { name, of, public: true, room: 8 }
}

impl Trial {
    fn apply(&mut self, op: &Op) {
        assert!(self.step(op), "{op:?}");
    }

    /// Picks a row for a call of `name` by `user`.
    fn call(&mut self, user: usize, name: usize) -> (Target, Candidate) {
        let target = self.target(&caller(user), NAMES[name]).unwrap();
        match self.registry.pick(&caller(user), &target, Endpoint::ChatCompletions) {
            PickResult::Chosen(candidate) => (target, *candidate),
            other => panic!("{other:?}"),
        }
    }

    fn may_still_serve(&self, user: usize, (target, candidate): &(Target, Candidate)) -> bool {
        self.registry.may_still_serve(&caller(user), target, candidate)
    }

    /// Whether a row is found for `target`, which was resolved earlier.
    fn finds_row(&mut self, user: usize, target: &Target) -> bool {
        matches!(self.registry.pick(&caller(user), target, Endpoint::ChatCompletions), PickResult::Chosen(_))
    }

    /// Registers a row of `user` and opens the channel. No heartbeat reports a capacity.
    fn publish(&mut self, user: usize, session: &str, name: usize, of: Option<usize>, room: Option<u32>) {
        let entry = ProviderEntry {
            name: NAMES[name].into(),
            pool_name: of.map(|pool| NAMES[pool].into()),
            visibility: Visibility::Public,
            max_concurrency: room,
            ..provider("x", None)
        };
        let request = RegisterRequest {
            provider_session_id: Some(session.into()),
            providers: vec![entry],
            agents: Vec::new(),
        };
        let (caller, now, ids) = (caller(user), self.now(), &self.ids);
        self.registry.register(&caller, &request, &|_: &str| next(ids).to_string(), now).unwrap();
        self.registry.open(&caller, session, "stream".into(), Features::ALL, now).unwrap();
    }

    /// Reports the capacity `said` in a heartbeat. Returns the row's capacity.
    fn report(&mut self, user: usize, name: usize, said: u32) -> u32 {
        let mut beat = beat(user);
        for provider in beat.providers.iter_mut().flatten() {
            provider.max_concurrency = said;
        }
        self.registry.heartbeat(&caller(user), &beat, self.now()).unwrap();
        self.registry.llms[NAMES[name]].capacity().unwrap()
    }
}

#[test]
fn a_call_does_not_follow_its_row_to_another_owner() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    // A public row has no session that could decide.
    trial.apply(&Op::CreateLlm { user: ROOT, want: want(A, None) });
    let call = trial.call(CAROL, A);
    assert!(trial.may_still_serve(CAROL, &call));
    trial.apply(&Op::DeleteLlm { user: ROOT, name: A });
    assert!(!trial.may_still_serve(CAROL, &call), "the row is deleted");
    trial.apply(&Op::Free { user: ROOT, name: A });
    let (other, now) = (Caller { role: Role::Admin, ..caller(BOB) }, trial.now());
    trial.registry.create_llm(&other, llm_spec(&want(A, None)), "2".into(), now).unwrap();
    assert_eq!(trial.call(CAROL, A).1.owner, USERS[BOB], "a new call does not go to the new row");
    assert!(!trial.may_still_serve(CAROL, &call), "the old call goes to another owner's row");
}

#[test]
fn a_call_does_not_follow_its_row_to_another_session() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(ALICE, USERS[ALICE], A, None, Some(8));
    let call = trial.call(CAROL, A);
    assert!(trial.may_still_serve(CAROL, &call));
    trial.apply(&Op::Leave { user: ALICE });
    trial.publish(ALICE, "another", A, None, Some(8));
    assert_eq!(trial.call(CAROL, A).1.session.as_deref(), Some("another"));
    assert!(!trial.may_still_serve(CAROL, &call));
}

#[test]
fn a_call_does_not_go_to_a_row_that_no_longer_allows_remote_urls() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    let spec = |open| LlmSpec { allow_remote_urls: Some(open), ..llm_spec(&want(A, None)) };
    let now = trial.now();
    trial.registry.create_llm(&caller(ROOT), spec(true), "1".into(), now).unwrap();
    let call = trial.call(CAROL, A);
    assert!(trial.may_still_serve(CAROL, &call));
    trial.registry.update_llm(&caller(ROOT), NAMES[A], spec(false), now).unwrap();
    assert!(!trial.may_still_serve(CAROL, &call));
    let closed = trial.call(CAROL, A);
    trial.registry.update_llm(&caller(ROOT), NAMES[A], spec(true), now).unwrap();
    assert!(trial.may_still_serve(CAROL, &closed), "a call that does not need remote URLs is refused");
}

#[test]
fn a_call_for_one_owners_rows_goes_to_no_other_owner() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.apply(&Op::CreateLlm { user: ROOT, want: want(A, None) });
    let (target, candidate) = trial.call(CAROL, A);
    let of = |owner: usize| Target { only_owner: Some(USERS[owner].into()), ..target.clone() };
    assert!(trial.may_still_serve(CAROL, &(of(ROOT), candidate.clone())));
    assert!(!trial.may_still_serve(CAROL, &(of(BOB), candidate)));
}

/// A waiting call through an agent ends if the agent is changed, deleted, made private or replaced.
#[test]
fn a_waiting_call_through_a_changed_agent_ends() {
    let changes: [(&str, WaitEvent); 4] = [
        ("changed", |trial| trial.apply(&Op::UpdateAgent { user: ALICE, want: want(C, Some(B)) })),
        ("deleted", |trial| trial.apply(&Op::DeleteAgent { user: ALICE, name: C })),
        ("replaced", |trial| {
            trial.apply(&Op::DeleteAgent { user: ALICE, name: C });
            trial.apply(&Op::Free { user: ROOT, name: C });
            trial.apply(&Op::CreateAgent { user: BOB, want: want(C, Some(B)) });
        }),
        // The agent is still visible to the calling admin, but now reaches only rows of its owner.
        ("private", |trial| {
            let want = Want { public: false, ..want(C, Some(A)) };
            trial.apply(&Op::UpdateAgent { user: ALICE, want });
        }),
    ];
    for (what, change) in changes {
        let mut trial = Trial::new(PoolPolicy::Ask);
        for name in [A, B] {
            trial.apply(&Op::CreateLlm { user: ROOT, want: want(name, None) });
        }
        trial.apply(&Op::CreateAgent { user: ALICE, want: want(C, Some(A)) });
        let call = trial.call(ROOT, C);
        assert!(trial.may_still_serve(ROOT, &call) && trial.finds_row(ROOT, &call.0), "{what}");
        change(&mut trial);
        assert!(!trial.may_still_serve(ROOT, &call), "{what}");
        assert!(!trial.finds_row(ROOT, &call.0), "{what}");
    }
}

#[test]
fn an_agent_saved_with_another_llm_is_pinned_to_that_llms_owner() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(BOB, USERS[BOB], A, None, Some(8));
    trial.publish(ALICE, USERS[ALICE], B, None, Some(8));
    trial.apply(&Op::CreateAgent { user: CAROL, want: want(C, Some(A)) });
    assert_eq!(trial.call(CAROL, C).1.owner, USERS[BOB]);
    trial.apply(&Op::UpdateAgent { user: CAROL, want: want(C, Some(B)) });
    assert_eq!(trial.call(CAROL, C).1.owner, USERS[ALICE]);
}

/// Reports and registrations do not raise the capacity of an admitted row; another admission does.
#[test]
fn an_admitted_row_has_at_most_its_capacity_at_admission() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(ALICE, USERS[ALICE], P, Some(P), Some(8));
    trial.publish(BOB, USERS[BOB], B, Some(P), Some(2));
    let admit = |trial: &mut Trial| trial.apply(&Op::Admit { user: ALICE, pool: P, row: B });
    admit(&mut trial);
    assert_eq!(trial.report(BOB, B, REPORTED_CAPACITY), 2);
    trial.publish(BOB, USERS[BOB], B, Some(P), Some(50));
    assert_eq!(trial.report(BOB, B, REPORTED_CAPACITY), 2, "the row was admitted with 2");
    assert_eq!(trial.report(BOB, B, 1), 1, "a smaller report counts");
    admit(&mut trial);
    assert_eq!(trial.report(BOB, B, REPORTED_CAPACITY), 50, "the registered capacity, not the reported one");
    trial.apply(&Op::Dismiss { user: ALICE, pool: P, row: B });
    trial.publish(BOB, USERS[BOB], B, Some(P), None);
    admit(&mut trial);
    assert_eq!(trial.report(BOB, B, REPORTED_CAPACITY), 4, "the default capacity");
    assert_eq!(trial.report(ALICE, P, REPORTED_CAPACITY), 8, "the pool owner's row needs no admission");
}

/// If no capacity is registered, the first reported one above 0 is the maximum of later ones.
#[test]
fn the_first_reported_capacity_bounds_later_reports() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(ALICE, USERS[ALICE], A, None, None);
    assert_eq!([0, 7, 9, 3].map(|said| trial.report(ALICE, A, said)), [0, 7, 7, 3]);
}

/// A pool stays shared while its owner's public row exists, also if the next sweep would delete the row.
#[test]
fn a_pool_stays_shared_until_a_sweep_deletes_its_owners_public_row() {
    let mut trial = Trial::new(PoolPolicy::Members);
    let register = |rows| Op::Register { user: ALICE, rows, agents: Vec::new() };
    for op in [
        register(vec![want(C, Some(A))]),
        Op::CreateLlm { user: ROOT, want: want(P, Some(A)) },
        // The open channel keeps the inactive row beyond its retention time; then the channel closes.
        register(Vec::new()),
        Op::Wait { hours: 5 },
        Op::Leave { user: ALICE },
        // Creating the agent updates the use of the pool's name.
        Op::CreateAgent { user: ALICE, want: want(A, Some(A)) },
        register(Vec::new()),
    ] {
        assert!(trial.step(&op) && trial.model.step(&op, trial.hours), "{op:?}");
        trial.check(ROOT, A).unwrap();
    }
}
