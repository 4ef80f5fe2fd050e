//! Tasks of other hubs for registrars that read events.

use wire::TaskId;

use super::state::HomeEvent;
use crate::channels::Event;
use crate::cluster::Process;
use crate::cluster::peers::Peers;
use crate::hub::Hub;

/// HTTP status of a task for which a channel has no room.
const NO_ROOM: u16 = 503;

impl Hub {
    /// Puts what a home has sent on the channel of a registrar that reads events.
    pub(in crate::cluster::relay) fn pass_to_events(&self, peers: &Peers, number: u64) {
        let quota = |owner: &str| self.channels.count(owner, self.options.limits.bytes);
        let Some((session, events)) = peers.hosts.events(peers, number, quota) else { return };
        for event in events {
            match event {
                HomeEvent::Task(task, data, counted) => {
                    if self.channels.send_counted(&session, Event::task(&task, data), counted).is_err() {
                        peers.hosts.refuse(number, &task, NO_ROOM);
                    }
                }
                HomeEvent::Refused(task) => peers.hosts.refuse(number, &task, NO_ROOM),
                HomeEvent::Cancel(task) => self.cancel_on(&session, &task),
            }
        }
    }

    fn cancel_on(&self, session: &str, task: &str) {
        if self.channels.end_task(session, task) {
            // The registrar does not get it.
            return;
        }
        if let Ok(id) = TaskId::parse(task)
            && let Ok(event) = Event::cancel(id)
        {
            self.channels.send_control(session, event);
        }
    }

    /// Ends the tasks of a process that is dead, at the registrars of this hub.
    pub(in crate::cluster) fn bury(&self, peers: &Peers, process: Process) {
        for (session, tasks) in peers.hosts.bury(process) {
            for task in tasks {
                self.cancel_on(&session, &task);
            }
        }
    }
}
