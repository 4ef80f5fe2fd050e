//! The digest of the table of LLMs, by which an admin sees whether all hubs have the same.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use super::shared::Shared;
use crate::hub::Hub;

/// Time between two looks for changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Rows between which others may have the table: some 0.2 ms.
const PAGE: usize = 200;

/// Keeps the digest that this process tells.
pub(super) async fn keep(hub: &Hub, shared: &Shared) {
    let mut known = 0;
    loop {
        let version = shared.version.load(Ordering::Relaxed);
        if version != known {
            let (mut sum, mut after) = (0_u64, None);
            loop {
                let (of_page, last) = hub.registry.lock().digest_of_rows(after.as_deref(), PAGE);
                (sum, after) = (sum.wrapping_add(of_page), last);
                if after.is_none() {
                    break;
                }
                yield_now().await;
            }
            sum = sum.wrapping_add(hub.registry.lock().digest_of_rest());
            *shared.digest.lock() = Some(format!("{sum:016x}"));
            // What was changed meanwhile is counted with the next look.
            known = version;
        }
        sleep(LOOK_EVERY).await;
    }
}
