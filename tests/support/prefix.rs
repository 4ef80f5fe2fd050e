//! A reverse proxy that offers a server below a path, and strips that path: as nginx's `proxy_pass` with a slash.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use parking_lot::Mutex;

/// A running proxy.
pub struct PrefixProxy {
    port: u16,
    strays: Arc<Mutex<Vec<String>>>,
    server: ServerHandle,
}

/// What a request needs.
struct Route {
    prefix: &'static str,
    target: String,
    client: awc::Client,
    strays: Arc<Mutex<Vec<String>>>,
}

impl PrefixProxy {
    /// Offers the server at `target` below `prefix`, which begins with a slash and ends with none.
    pub fn start(prefix: &'static str, target: &str) -> Self {
        let (target, strays) = (target.to_owned(), Arc::<Mutex<Vec<String>>>::default());
        let seen = Arc::clone(&strays);
        let server = HttpServer::new(move || {
            let client = awc::Client::builder().timeout(Duration::from_mins(1)).finish();
            let route = Route { prefix, target: target.clone(), client, strays: Arc::clone(&seen) };
            App::new().app_data(web::Data::new(route)).default_service(web::to(forward))
        })
        .workers(1)
        .disable_signals()
        .h1_allow_half_closed(false)
        .shutdown_timeout(0)
        .bind("127.0.0.1:0")
        .unwrap();
        let port = server.addrs()[0].port();
        let running = server.run();
        let server = running.handle();
        actix_rt::spawn(running);
        Self { port, strays, server }
    }

    /// Its address, without the prefix.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The paths outside the prefix that somebody asked for.
    pub fn strays(&self) -> Vec<String> {
        self.strays.lock().clone()
    }
}

impl Drop for PrefixProxy {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

async fn forward(route: web::Data<Route>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let whole = request.uri().to_string();
    let Some(path) = whole.strip_prefix(route.prefix).filter(|path| path.starts_with('/')) else {
        route.strays.lock().push(whole);
        return HttpResponse::NotFound().finish();
    };
    let url = format!("{}{path}", route.target);
    let mut onward = route.client.request(request.method().clone(), url).no_decompress();
    for (name, value) in request.headers() {
        if name != header::HOST && name != header::CONNECTION && name != header::CONTENT_LENGTH {
            onward = onward.append_header((name.clone(), value.clone()));
        }
    }
    let Ok(answer) = onward.send_body(body).await else { return HttpResponse::BadGateway().finish() };
    let mut response = HttpResponse::build(answer.status());
    for (name, value) in answer.headers() {
        if name != header::CONNECTION && name != header::TRANSFER_ENCODING && name != header::CONTENT_LENGTH {
            response.append_header((name.clone(), value.clone()));
        }
    }
    response.streaming(answer)
}
