//! Registers routes with their descriptions.

use std::borrow::Cow;

use actix_web::dev::Handler;
use actix_web::http::Method;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{FromRequest, Responder, Route};

use super::operation::Operation;

/// A registered route.
#[derive(Debug, Clone)]
pub(in crate::http) struct Described {
    /// The heading that it is under.
    pub(super) section: &'static str,
    pub(in crate::http) method: Method,
    /// The pattern, such as `/api/v1/llms/{name}`.
    pub(in crate::http) path: Cow<'static, str>,
    pub(super) operation: Operation,
}

/// The only way by which routes are registered, so that each has a description.
pub(in crate::http) struct Routes<'a> {
    config: &'a mut ServiceConfig,
    section: &'static str,
    pub(super) described: Vec<Described>,
}

impl<'a> Routes<'a> {
    pub(in crate::http) fn new(config: &'a mut ServiceConfig) -> Self {
        Self { config, section: "", described: Vec::new() }
    }

    /// Registers the routes of `register` under a heading.
    pub(in crate::http) fn section(
        &mut self,
        heading: &'static str,
        register: impl FnOnce(&mut Routes<'_>),
    ) -> &mut Self {
        self.section = heading;
        register(self);
        self
    }

    /// Adds data that handlers of a section extract.
    pub(in crate::http) fn data<T: 'static>(&mut self, data: Data<T>) -> &mut Self {
        self.config.app_data(data);
        self
    }

    pub(in crate::http) fn get<Args>(
        &mut self,
        path: impl Into<Cow<'static, str>>,
        handler: impl RouteHandler<Args>,
        operation: Operation,
    ) -> &mut Self {
        self.add(Method::GET, path.into(), handler, operation)
    }

    pub(in crate::http) fn post<Args>(
        &mut self,
        path: impl Into<Cow<'static, str>>,
        handler: impl RouteHandler<Args>,
        operation: Operation,
    ) -> &mut Self {
        self.add(Method::POST, path.into(), handler, operation)
    }

    pub(in crate::http) fn put<Args>(
        &mut self,
        path: impl Into<Cow<'static, str>>,
        handler: impl RouteHandler<Args>,
        operation: Operation,
    ) -> &mut Self {
        self.add(Method::PUT, path.into(), handler, operation)
    }

    pub(in crate::http) fn patch<Args>(
        &mut self,
        path: impl Into<Cow<'static, str>>,
        handler: impl RouteHandler<Args>,
        operation: Operation,
    ) -> &mut Self {
        self.add(Method::PATCH, path.into(), handler, operation)
    }

    pub(in crate::http) fn delete<Args>(
        &mut self,
        path: impl Into<Cow<'static, str>>,
        handler: impl RouteHandler<Args>,
        operation: Operation,
    ) -> &mut Self {
        self.add(Method::DELETE, path.into(), handler, operation)
    }

    /// Registers a handler for all that is below `scope` and describes the one `POST` that it serves there: for a route whose
    /// pattern would cost too much.
    pub(in crate::http) fn post_below<Args>(
        &mut self,
        scope: &'static str,
        path: &'static str,
        handler: impl RouteHandler<Args>,
        operation: Operation,
    ) -> &mut Self {
        self.config.service(web::scope(scope).default_service(handler.route()));
        self.describe(Method::POST, format!("{scope}{path}").into(), operation)
    }

    fn add<Args>(
        &mut self,
        method: Method,
        path: Cow<'static, str>,
        handler: impl RouteHandler<Args>,
        operation: Operation,
    ) -> &mut Self {
        self.config.route(&path, handler.route().method(method.clone()));
        self.describe(method, path, operation)
    }

    fn describe(&mut self, method: Method, path: Cow<'static, str>, operation: Operation) -> &mut Self {
        self.described.push(Described { section: self.section, method, path, operation });
        self
    }
}

/// A handler of a route: a function from what it extracts to a response.
pub(in crate::http) trait RouteHandler<Args> {
    /// The route, for any method.
    fn route(self) -> Route;
}

impl<F, Args> RouteHandler<Args> for F
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    fn route(self) -> Route {
        web::to(self)
    }
}
