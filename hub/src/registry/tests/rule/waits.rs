//! Calls that wait, and capacities of admitted rows: single cases that random sequences reach too seldom.

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
    fn does(&mut self, op: &Op) {
        assert!(self.step(op), "{op:?}");
    }

    /// Picks a row for a call of `user` for `name`.
    fn call(&mut self, user: usize, name: usize) -> (Target, Candidate) {
        let target = self.target(&caller(user), NAMES[name]).unwrap();
        match self.registry.pick(&caller(user), &target, Endpoint::ChatCompletions) {
            PickResult::Chosen(candidate) => (target, *candidate),
            other => panic!("{other:?}"),
        }
    }

    fn leads(&self, user: usize, (target, candidate): &(Target, Candidate)) -> bool {
        self.registry.may_still_serve(&caller(user), target, candidate)
    }

    /// Whether a call for an earlier `target` still finds a row.
    fn picks(&mut self, user: usize, target: &Target) -> bool {
        matches!(self.registry.pick(&caller(user), target, Endpoint::ChatCompletions), PickResult::Chosen(_))
    }

    /// Registers a row of `user` and opens the channel; no heartbeat reports a capacity.
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

    /// Reports a capacity in a heartbeat. Returns the capacity that counts.
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
    // A public row, so that no session decides.
    trial.does(&Op::CreateLlm { user: ROOT, want: want(A, None) });
    let call = trial.call(CAROL, A);
    assert!(trial.leads(CAROL, &call));
    trial.does(&Op::DeleteLlm { user: ROOT, name: A });
    assert!(!trial.leads(CAROL, &call), "deleted");
    trial.does(&Op::Free { user: ROOT, name: A });
    let (other, now) = (Caller { role: Role::Admin, ..caller(BOB) }, trial.now());
    trial.registry.create_llm(&other, llm_spec(&want(A, None)), "2".into(), now).unwrap();
    assert_eq!(trial.call(CAROL, A).1.owner, USERS[BOB], "a new call goes to it");
    assert!(!trial.leads(CAROL, &call), "another owner's");
}

#[test]
fn a_call_does_not_follow_its_row_to_another_session() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(ALICE, USERS[ALICE], A, None, Some(8));
    let call = trial.call(CAROL, A);
    assert!(trial.leads(CAROL, &call));
    trial.does(&Op::Leave { user: ALICE });
    trial.publish(ALICE, "another", A, None, Some(8));
    assert_eq!(trial.call(CAROL, A).1.session.as_deref(), Some("another"));
    assert!(!trial.leads(CAROL, &call));
}

#[test]
fn a_call_does_not_go_to_a_row_that_no_longer_allows_remote_urls() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    let spec = |open| LlmSpec { allow_remote_urls: Some(open), ..llm_spec(&want(A, None)) };
    let now = trial.now();
    trial.registry.create_llm(&caller(ROOT), spec(true), "1".into(), now).unwrap();
    let call = trial.call(CAROL, A);
    assert!(trial.leads(CAROL, &call));
    trial.registry.update_llm(&caller(ROOT), NAMES[A], spec(false), now).unwrap();
    assert!(!trial.leads(CAROL, &call));
    let closed = trial.call(CAROL, A);
    trial.registry.update_llm(&caller(ROOT), NAMES[A], spec(true), now).unwrap();
    assert!(trial.leads(CAROL, &closed), "a call for an answer alone goes on");
}

#[test]
fn a_call_for_one_owners_rows_goes_to_no_other_owner() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.does(&Op::CreateLlm { user: ROOT, want: want(A, None) });
    let (target, candidate) = trial.call(CAROL, A);
    let of = |owner: usize| Target { only_owner: Some(USERS[owner].into()), ..target.clone() };
    assert!(trial.leads(CAROL, &(of(ROOT), candidate.clone())));
    assert!(!trial.leads(CAROL, &(of(BOB), candidate)));
}

/// A call through an agent waits for what the agent stood for when the call came.
#[test]
fn a_call_through_a_changed_agent_ends() {
    let changes: [(&str, WaitEvent); 4] = [
        ("another LLM", |trial| trial.does(&Op::UpdateAgent { user: ALICE, want: want(C, Some(B)) })),
        ("deleted", |trial| trial.does(&Op::DeleteAgent { user: ALICE, name: C })),
        ("another's", |trial| {
            trial.does(&Op::DeleteAgent { user: ALICE, name: C });
            trial.does(&Op::Free { user: ROOT, name: C });
            trial.does(&Op::CreateAgent { user: BOB, want: want(C, Some(B)) });
        }),
        // Visible to an admin still, and restricted to its owner's rows.
        ("private", |trial| {
            let want = Want { public: false, ..want(C, Some(A)) };
            trial.does(&Op::UpdateAgent { user: ALICE, want });
        }),
    ];
    for (what, change) in changes {
        let mut trial = Trial::new(PoolPolicy::Ask);
        for name in [A, B] {
            trial.does(&Op::CreateLlm { user: ROOT, want: want(name, None) });
        }
        trial.does(&Op::CreateAgent { user: ALICE, want: want(C, Some(A)) });
        let call = trial.call(ROOT, C);
        assert!(trial.leads(ROOT, &call) && trial.picks(ROOT, &call.0), "{what}");
        change(&mut trial);
        assert!(!trial.leads(ROOT, &call), "{what}");
        assert!(!trial.picks(ROOT, &call.0), "{what}");
    }
}

#[test]
fn an_agent_saved_with_another_llm_is_pinned_to_that_llms_owner() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(BOB, USERS[BOB], A, None, Some(8));
    trial.publish(ALICE, USERS[ALICE], B, None, Some(8));
    trial.does(&Op::CreateAgent { user: CAROL, want: want(C, Some(A)) });
    assert_eq!(trial.call(CAROL, C).1.owner, USERS[BOB]);
    trial.does(&Op::UpdateAgent { user: CAROL, want: want(C, Some(B)) });
    assert_eq!(trial.call(CAROL, C).1.owner, USERS[ALICE]);
}

/// Neither reports nor later registrations raise the capacity of an admitted row; another admission does.
#[test]
fn an_admitted_row_has_at_most_its_capacity_at_admission() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(ALICE, USERS[ALICE], P, Some(P), Some(8));
    trial.publish(BOB, USERS[BOB], B, Some(P), Some(2));
    let admit = |trial: &mut Trial| trial.does(&Op::Admit { user: ALICE, pool: P, row: B });
    admit(&mut trial);
    assert_eq!(trial.report(BOB, B, SAID), 2);
    trial.publish(BOB, USERS[BOB], B, Some(P), Some(50));
    assert_eq!(trial.report(BOB, B, SAID), 2, "admitted with 2");
    assert_eq!(trial.report(BOB, B, 1), 1, "a smaller report counts");
    admit(&mut trial);
    assert_eq!(trial.report(BOB, B, SAID), 50, "the registered one, not the reported");
    trial.does(&Op::Dismiss { user: ALICE, pool: P, row: B });
    trial.publish(BOB, USERS[BOB], B, Some(P), None);
    admit(&mut trial);
    assert_eq!(trial.report(BOB, B, SAID), 4, "the default");
    assert_eq!(trial.report(ALICE, P, SAID), 8, "the owner's own is as registered");
}

/// A reported capacity of 0 is no value: the first greater one is the bound.
#[test]
fn the_first_reported_capacity_bounds_later_reports() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(ALICE, USERS[ALICE], A, None, None);
    assert_eq!([0, 7, 9, 3].map(|said| trial.report(ALICE, A, said)), [0, 7, 7, 3]);
}
