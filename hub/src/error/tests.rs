use super::*;

#[test]
fn every_429_and_503_has_a_retry_after() {
    for kind in ErrorKind::ALL {
        let header = |error: &ApiError| {
            let response = error.response(Dialect::Api);
            response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
        };
        let default = matches!(kind.status(), 429 | 503).then_some("5");
        assert_eq!(header(&ApiError::new(*kind, "no")).as_deref(), default, "{kind:?}");
        let told = ApiError::new(*kind, "no").retry_after(Some(77));
        assert_eq!(header(&told).as_deref(), Some("77"), "{kind:?}");
        let told = ApiError::new(*kind, "no").retry_after(Some(u32::MAX));
        assert_eq!(header(&told).as_deref(), Some("86400"), "{kind:?}");
    }
}

#[test]
fn a_backends_status_determines_the_error_types() {
    let error = ApiError::backend(404, "no such model");
    assert_eq!(error.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        error.anthropic(),
        r#"{"type":"error","error":{"type":"not_found_error","message":"no such model","code":"backend_error"}}"#
    );
    assert_eq!(ApiError::backend(302, "elsewhere").status(), StatusCode::BAD_GATEWAY);
}
