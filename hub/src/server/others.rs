//! The routes, for what other hubs of the cluster pass on.

use std::rc::Rc;
use std::sync::Arc;

use actix_http::Request;
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, ServiceResponse};

use crate::cluster::{self, Handler};
use crate::hub::Hub;

/// Serves what other hubs of the cluster pass on, by the routes of `app`.
pub(super) async fn serve<A, S, B>(hub: Arc<Hub>, app: impl Fn() -> A)
where
    A: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = actix_web::Error>,
    S::InitError: std::fmt::Debug,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    if hub.shared.is_none() {
        return std::future::pending().await;
    }
    let service = match app().into_factory().new_service(AppConfig::default()).await {
        Ok(service) => Rc::new(service),
        Err(error) => return log::error!("no routes for other hubs: {error:?}"),
    };
    let handler: Handler = Rc::new(move |request| {
        let service = service.clone();
        Box::pin(async move { Ok(service.call(request).await?.map_into_boxed_body()) })
    });
    cluster::run(hub, handler).await;
}
