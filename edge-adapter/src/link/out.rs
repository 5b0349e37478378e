//! What the table wants done: frames to the core, posts to the shards, each in order.
use crate::{
    fanout::post::{Post, Posts},
    session::key::SessionKey,
};
use hearth_proto::v1::EdgeFrame;

/// Collects what one turn of the worker brings about.
#[derive(Debug)]
pub struct Out {
    /// For the core.
    pub frames: Vec<EdgeFrame>,
    shards: Vec<Vec<Post>>,
}

impl Out {
    /// For this many shards.
    pub fn new(shards: usize) -> Self {
        Self { frames: Vec::new(), shards: (0..shards).map(|_| Vec::new()).collect() }
    }

    /// For one session.
    pub fn post(&mut self, session: SessionKey, post: Post) {
        self.post_to(session.shard(), post);
    }

    /// For one shard. A shard that is not there has no sessions either.
    pub fn post_to(&mut self, shard: usize, post: Post) {
        if let Some(posts) = self.shards.get_mut(shard) {
            posts.push(post);
        }
    }

    /// Hands all posts over, one wake-up for each shard.
    pub fn deliver(&mut self, to: &dyn Posts) {
        for (shard, posts) in self.shards.iter_mut().enumerate() {
            if !posts.is_empty() {
                to.post(shard, posts);
            }
        }
    }
}
