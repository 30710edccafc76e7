//! How requests reach endpoints.

use ingress::Policy;

use crate::world::{World, endpoint, nobody, route, upstream};

#[tokio::test]
async fn endpoints_that_refuse_are_passed_over() {
    let app = upstream("app", &[nobody().await, nobody().await, endpoint("app").await]);
    let world = World::new(route(&app, Policy::default())).await;
    for line in ["GET /", "POST /", "GET /", "DELETE /", "PATCH /"] {
        assert_eq!(world.ask(line, &[]).await.name(), "app", "{line}");
    }
    app.update(vec![nobody().await]);
    assert_eq!(world.ask("GET /", &[]).await.status, 502);
    app.update(Vec::new());
    assert_eq!(world.ask("GET /", &[]).await.status, 503);
}
