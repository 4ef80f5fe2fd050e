//! What a call that waits still leads to, and the room of a row that was let in: each part of the rule by itself, since
//! sequences at random come by some of them too seldom.

use super::*;

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;
const ROOT: usize = 3;
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const P: usize = 3;

/// What happens while a call waits.
type Turn = fn(&mut Trial);

fn want(name: usize, of: Option<usize>) -> Want {
    Want { name, of, public: true, room: 8 }
}

impl Trial {
    fn does(&mut self, op: &Op) {
        assert!(self.step(op), "{op:?}");
    }

    /// A call of `user` for `name`: what it is for, and the row that it was given.
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

    /// Whether a call that was for `target` before still finds somebody.
    fn picks(&mut self, user: usize, target: &Target) -> bool {
        matches!(self.registry.pick(&caller(user), target, Endpoint::ChatCompletions), PickResult::Chosen(_))
    }

    /// A row of `user`'s at this session, whose channel opens; nothing is said of its room in a heartbeat.
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

    /// Its publisher says how much room it has; what counts of that.
    fn room(&mut self, user: usize, name: usize, said: u32) -> u32 {
        let mut beat = beat(user);
        for provider in beat.providers.iter_mut().flatten() {
            provider.max_concurrency = said;
        }
        self.registry.heartbeat(&caller(user), &beat, self.now()).unwrap();
        self.registry.llms[NAMES[name]].capacity().unwrap()
    }
}

#[test]
fn a_row_that_has_another_owner_gets_no_call_that_was_given_to_the_first() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    // A row of the hub's, which no session has; and another admin.
    trial.does(&Op::CreateLlm { user: ROOT, want: want(A, None) });
    let call = trial.call(CAROL, A);
    assert!(trial.leads(CAROL, &call));
    trial.does(&Op::DeleteLlm { user: ROOT, name: A });
    assert!(!trial.leads(CAROL, &call), "there is none");
    trial.does(&Op::Free { user: ROOT, name: A });
    let (other, now) = (Caller { role: Role::Admin, ..caller(BOB) }, trial.now());
    trial.registry.create_llm(&other, llm_spec(&want(A, None)), "2".into(), now).unwrap();
    assert_eq!(trial.call(CAROL, A).1.owner, USERS[BOB], "a call that comes now is for his");
    assert!(!trial.leads(CAROL, &call), "it is bob's");
}

#[test]
fn a_row_that_another_session_publishes_gets_no_call_that_was_given_to_the_first() {
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
fn a_row_that_opens_its_backend_to_its_owner_alone_gets_no_call_that_it_was_open_to() {
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
    assert!(trial.leads(CAROL, &closed), "what asks for no more than an answer may go on");
}

#[test]
fn a_call_for_one_owners_rows_leads_to_no_other() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.does(&Op::CreateLlm { user: ROOT, want: want(A, None) });
    let (target, candidate) = trial.call(CAROL, A);
    let of = |owner: usize| Target { only_owner: Some(USERS[owner].into()), ..target.clone() };
    assert!(trial.leads(CAROL, &(of(ROOT), candidate.clone())));
    assert!(!trial.leads(CAROL, &(of(BOB), candidate)));
}

/// Whoever waits through an agent waits for what that stood for when the call came.
#[test]
fn an_agent_that_stands_for_something_else_leads_nobody_on_who_came_before() {
    let changes: [(&str, Turn); 4] = [
        ("another LLM", |trial| trial.does(&Op::UpdateAgent { user: ALICE, want: want(C, Some(B)) })),
        ("deleted", |trial| trial.does(&Op::DeleteAgent { user: ALICE, name: C })),
        ("another's", |trial| {
            trial.does(&Op::DeleteAgent { user: ALICE, name: C });
            trial.does(&Op::Free { user: ROOT, name: C });
            trial.does(&Op::CreateAgent { user: BOB, want: want(C, Some(B)) });
        }),
        // An admin still sees it, and it reaches its owner's rows alone.
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

/// An agent over an LLM is pinned to who had that LLM's name when it was made, over whatever it stood before.
#[test]
fn an_agent_that_is_saved_over_another_llm_is_pinned_to_that_ones_owner() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(BOB, USERS[BOB], A, None, Some(8));
    trial.publish(ALICE, USERS[ALICE], B, None, Some(8));
    trial.does(&Op::CreateAgent { user: CAROL, want: want(C, Some(A)) });
    assert_eq!(trial.call(CAROL, C).1.owner, USERS[BOB]);
    trial.does(&Op::UpdateAgent { user: CAROL, want: want(C, Some(B)) });
    assert_eq!(trial.call(CAROL, C).1.owner, USERS[ALICE]);
}

/// A row that was let into a pool has no more room there than it had been registered with, whatever it says, however it
/// registers again, and whatever its publisher said last; the pool's owner can let it in anew.
#[test]
fn a_row_that_was_let_in_has_no_more_room_than_it_was_registered_with() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(ALICE, USERS[ALICE], P, Some(P), Some(8));
    trial.publish(BOB, USERS[BOB], B, Some(P), Some(2));
    let admit = |trial: &mut Trial| trial.does(&Op::Admit { user: ALICE, pool: P, row: B });
    admit(&mut trial);
    assert_eq!(trial.room(BOB, B, SAID), 2);
    trial.publish(BOB, USERS[BOB], B, Some(P), Some(50));
    assert_eq!(trial.room(BOB, B, SAID), 2, "he was let in with two");
    assert_eq!(trial.room(BOB, B, 1), 1, "less is believed");
    admit(&mut trial);
    assert_eq!(trial.room(BOB, B, SAID), 50, "not the one that he said last");
    trial.does(&Op::Dismiss { user: ALICE, pool: P, row: B });
    trial.publish(BOB, USERS[BOB], B, Some(P), None);
    admit(&mut trial);
    assert_eq!(trial.room(BOB, B, SAID), 4, "what a registrar has that is told nothing");
    assert_eq!(trial.room(ALICE, P, SAID), 8, "hers is what she registered");
}

/// No word of its room is none: what is said first afterwards holds.
#[test]
fn a_row_that_says_no_room_at_first_has_what_it_says_then() {
    let mut trial = Trial::new(PoolPolicy::Ask);
    trial.publish(ALICE, USERS[ALICE], A, None, None);
    assert_eq!([0, 7, 9, 3].map(|said| trial.room(ALICE, A, said)), [0, 7, 7, 3]);
}
