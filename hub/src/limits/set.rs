//! Changes of limits.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{CallerLimits, Spent};
use crate::clock;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::model::{CallLimits, Day, LimitOwner, LimitRecord, MAX_COUNT, ModelPatterns, UsageSum};
use crate::store::{Change, StoreError, UsageBy, UsageQuery};

/// Most requests a minute and calls at a time that can be a limit: more than a hub serves.
const MAX_CALLS: u32 = 1_000_000;

/// A change of limits: what is missing stays, and null removes a limit.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LimitsPatch {
    /// Names of LLMs, pools and agents, or patterns with `*` at the end; others do not exist for the caller.
    #[schemars(with = "Option<Vec<String>>")]
    models: Wanted<Vec<String>>,
    /// Input and output tokens of a day in UTC.
    #[schemars(with = "Option<u64>", range(min = 1, max = MAX_COUNT))]
    tokens_per_day: Wanted<u64>,
    #[schemars(with = "Option<u32>", range(min = 1, max = MAX_CALLS))]
    requests_per_minute: Wanted<u64>,
    /// Calls at a time.
    #[schemars(with = "Option<u32>", range(min = 1, max = MAX_CALLS))]
    max_concurrent: Wanted<u64>,
}

/// One limit of a change.
#[derive(Debug, Clone, Copy, Default)]
enum Wanted<T> {
    #[default]
    AsBefore,
    Limit(Option<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Wanted<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Option::deserialize(from).map(Self::Limit)
    }
}

impl LimitsPatch {
    /// `limits` after the change.
    pub(crate) fn apply(self, limits: &CallLimits) -> Result<CallLimits, ApiError> {
        let Self { models, tokens_per_day, requests_per_minute, max_concurrent } = self;
        let models = match models {
            Wanted::AsBefore => limits.models.clone(),
            Wanted::Limit(None) => None,
            Wanted::Limit(Some(patterns)) => ModelPatterns::new(patterns)
                .map_err(|error| ApiError::bad_request(format!("models: {error}")).about("models"))?,
        };
        let calls = |name, wanted, old: Option<u32>| {
            let number = changed(name, wanted, old.map(u64::from), MAX_CALLS.into())?;
            Ok::<_, ApiError>(number.and_then(|number| u32::try_from(number).ok()))
        };
        Ok(CallLimits {
            models,
            tokens_per_day: changed("tokensPerDay", tokens_per_day, limits.tokens_per_day, MAX_COUNT)?,
            requests_per_minute: calls("requestsPerMinute", requests_per_minute, limits.requests_per_minute)?,
            max_concurrent: calls("maxConcurrent", max_concurrent, limits.max_concurrent)?,
        })
    }
}

fn changed(name: &str, wanted: Wanted<u64>, old: Option<u64>, most: u64) -> Result<Option<u64>, ApiError> {
    match wanted {
        Wanted::AsBefore => Ok(old),
        Wanted::Limit(Some(number)) if !(1..=most).contains(&number) => {
            let text = format!("{name}: a number from 1 to {most}, or null for no limit");
            Err(ApiError::bad_request(text).about(name))
        }
        Wanted::Limit(new) => Ok(new),
    }
}

impl CallerLimits {
    /// The change that stores limits.
    pub(crate) fn change(owner: LimitOwner, limits: CallLimits) -> Change {
        if limits.is_none() {
            Change::DeleteLimits(owner)
        } else {
            Change::PutLimits(LimitRecord { owner, limits })
        }
    }
}

impl Hub {
    /// Changes the limits of `owner`, which is the user `name` or one of its tokens. They hold when this returns, and are stored.
    pub(crate) async fn set_limits(
        self: Arc<Self>,
        owner: LimitOwner,
        name: String,
        patch: LimitsPatch,
    ) -> Result<(), ApiError> {
        // Spawned, so that a caller that leaves does not leave limits in the store that do not hold.
        let set = tokio::spawn(async move {
            let limits = self.tokens.limits();
            let _turn = limits.changing.lock().await;
            let today = Day::of(clock::now());
            let (current, used) = limits.get(&owner, today);
            let new = patch.apply(&current)?;
            let spent = if used.is_some() { Vec::new() } else { self.spent(today, name).await? };
            self.store.write(vec![CallerLimits::change(owner.clone(), new.clone())]).await?;
            limits.put_shared(&owner, new, today, &spent, self.id());
            self.tell_changed();
            Ok(())
        });
        set.await.map_err(ApiError::internal)?
    }

    /// Takes over limits that another hub has set.
    pub(crate) async fn merge_limits(&self, owner: LimitOwner, new: CallLimits) -> Result<(), StoreError> {
        let (limits, today) = (self.tokens.limits(), Day::of(clock::now()));
        let is_new = limits.get(&owner, today).1.is_none();
        let user = match &owner {
            LimitOwner::User(user) => Some(user.clone()),
            LimitOwner::Token(id) => self.tokens.get(id).map(|token| token.user),
        };
        let spent = match user.filter(|_| is_new && !new.is_none()) {
            Some(user) => self.spent(today, user).await?,
            None => Vec::new(),
        };
        limits.put_shared(&owner, new, today, &spent, self.id());
        Ok(())
    }

    /// This hub's id among several.
    fn id(&self) -> &str {
        self.shared.as_ref().map_or("", |shared| shared.peers.hub())
    }

    /// What was used by the calls of `user` that ended on `day`.
    async fn spent(&self, day: Day, user: String) -> Result<Vec<Spent>, StoreError> {
        self.watch.flush().await;
        if let Some(shared) = &self.shared {
            return shared.spent(day, Some(user)).await;
        }
        let (of_user, limit) = (Some(user), usize::MAX);
        let query = UsageQuery {
            by: UsageBy::Token,
            since: day,
            until: day,
            user: of_user,
            llm: None,
            owner: None,
            limit,
            as_member: false,
        };
        let found = self.store.usage(query).await?;
        Ok(found
            .rows
            .into_iter()
            .map(|(key, total)| Spent::here(&UsageSum { key, counts: total.counts, ..UsageSum::default() }))
            .collect())
    }
}
