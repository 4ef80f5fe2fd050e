//! Three hubs in a network that loses, repeats, delays and parts, while they are killed, stopped and started again.

mod world;

use world::{HUBS, World};

use super::*;

/// Schedules of one run.
const SCHEDULES: u64 = 2000;
/// Seconds of trouble in each, and of peace behind them.
const TROUBLE: u64 = 90;
const PEACE: u64 = 25;

/// Tells the seed of a schedule that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn run(seed: u64) {
    let _told = Seed(seed);
    let mut world = World::new(seed);
    let step = Duration::from_millis(200);
    for tick in 0..TROUBLE * 5 {
        if tick % 5 == 0 && world.random.percent(35) {
            world.trouble();
        }
        world.pass(step);
        if tick % 3 == 0 {
            world.check_views();
        }
    }
    world.peace();
    for _ in 0..PEACE * 5 {
        world.pass(step);
        world.check_views();
    }
    let mut newest: Vec<_> = world.running.keys().copied().collect();
    newest.sort();
    assert_eq!(newest.len(), HUBS.len(), "seed {seed}: of each hub one process runs: {newest:?}");
    for (process, running) in &world.running {
        assert_eq!(running.members.living(), newest, "seed {seed}: at {process}");
        assert!(running.members.has_echo(), "seed {seed}: at {process}");
        assert_eq!(running.term, world.terms[process.hub()], "seed {seed}: {process}");
    }
    let digests: Vec<_> = world.running.values().map(|running| running.members.digest()).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}");
}

#[test]
fn all_processes_see_the_same_after_any_trouble() {
    for seed in 0..SCHEDULES {
        run(seed);
    }
}

/// A killed process in a good network: suspect after three beats, dead when its lease has ended.
#[test]
fn a_killed_process_is_suspect_in_4_s_and_dead_in_16_s() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        let pass = |world: &mut World, seconds: u64| {
            for _ in 0..seconds * 10 {
                world.pass(Duration::from_millis(100));
            }
        };
        world.network.weather.delay = Duration::from_millis(50);
        pass(&mut world, 5);
        let victim = world.any_running().unwrap();
        world.end(victim);
        let states =
            |world: &World| world.running.values().map(|of| of.members.state(victim)).collect::<Vec<_>>();
        pass(&mut world, 2);
        assert_eq!(states(&world), [Some(State::Alive); 2], "seed {seed}: after 2 s");
        pass(&mut world, 3);
        assert_eq!(states(&world), [Some(State::Suspect); 2], "seed {seed}: after 5 s");
        pass(&mut world, 9);
        assert_eq!(states(&world), [Some(State::Suspect); 2], "seed {seed}: after 14 s");
        pass(&mut world, 3);
        assert_eq!(states(&world), [Some(State::Dead); 2], "seed {seed}: after 17 s");
    }
}
