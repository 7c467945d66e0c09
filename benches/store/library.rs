//! Redis as an asynchronous application usually speaks to it: through the client library redis-rs, all of the application's tasks
//! over one multiplexed connection, as its documentation recommends. What the library takes of the processor counts, as it
//! does in the application.

use redis::Script;
use redis::aio::MultiplexedConnection;

use crate::load::{self, SIZE};
use crate::redis_server::{Redis, SWAP};

/// The connection that all share.
pub(crate) async fn connect(redis: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(format!("unix://{}", redis.socket().display())).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// Changes a record: it knows the version that it wrote last, and reads again when somebody else was faster.
pub(crate) struct Swapper {
    connection: MultiplexedConnection,
    script: Script,
    key: String,
    value: String,
    version: i64,
}

impl Swapper {
    pub(crate) fn new(connection: &MultiplexedConnection, key: String) -> Self {
        let value = format!("{:0SIZE$}", 1);
        Self { connection: connection.clone(), script: Script::new(SWAP), key, value, version: 0 }
    }
}

impl load::Client for Swapper {
    async fn act(&mut self) {
        loop {
            let mut call = self.script.key(&self.key);
            call.arg(self.version).arg(&self.value).arg(0);
            let told: i64 = call.invoke_async(&mut self.connection).await.unwrap();
            if told > 0 {
                self.version = told;
                return;
            }
            self.version = -told - 1;
        }
    }
}

/// Reads a record.
pub(crate) struct Reader(pub(crate) MultiplexedConnection);

impl load::Client for Reader {
    async fn act(&mut self) {
        let read: String = redis::cmd("HGET").arg("64-64-7").arg("d").query_async(&mut self.0).await.unwrap();
        assert_eq!(read.len(), SIZE);
    }
}
