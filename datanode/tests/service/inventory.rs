//! What a datanode tells a rebuild.

use std::fs;

use crate::common::fake_namenode::FakeNamenode;
use crate::common::node::TestNode;
use crate::common::writes::trailer_of;
use richardstore_proto::wire::InventoryRequest;
use richardstore_proto::wire::data_node_inventory_client::DataNodeInventoryClient;
use richardstore_proto::wire::inventory_part::Part;
use richardstore_runtime::{Channels, tcp_dial};
use richardstore_store::Layout;

#[tokio::test]
async fn i08_a_reader_sees_that_the_walk_gets_on_where_there_is_nothing_to_tell() {
    let namenode = FakeNamenode::start().await;
    let node = TestNode::start(&namenode).await;
    let replicas = node.directory.path().join("replicas");
    for number in 0..600_u32 {
        let bytes = number.to_le_bytes();
        let path = Layout::default().relative_path(&trailer_of(&bytes).hash);
        fs::write(replicas.join(path), bytes).unwrap();
    }
    let channel = Channels::new(tcp_dial()).get(&node.address()).unwrap();
    let mut client = DataNodeInventoryClient::new(channel);
    let request = InventoryRequest { contents: false };
    let mut parts = client.inventory(request).await.unwrap().into_inner();
    let mut signs = 0;
    let end = loop {
        match parts.message().await.unwrap().unwrap().part.unwrap() {
            Part::Identity(_) => {}
            Part::Deletes(_) => panic!("contents"),
            Part::Replicas(page) => {
                assert!(page.replicas.is_empty());
                signs += 1;
            }
            Part::End(end) => break end,
        }
    };
    assert_eq!(end.replicas, 600);
    assert_eq!(signs, 2, "one for each 256 of them");
}
