//! Copies of the metadata, and the room that they leave.

use richardstore_proto::wire::TakeCopyRequest;
use richardstore_proto::wire::name_node_recovery_client::NameNodeRecoveryClient;
use richardstore_proto::{ErrorCode, StoreError};

use crate::fixture::Rig;

#[tokio::test]
async fn i11_a_copy_is_written_only_where_it_leaves_the_database_its_room() {
    let rig = Rig::start().await;
    let mut recovery = NameNodeRecoveryClient::new(rig.channel());
    let taken = recovery.take_copy(TakeCopyRequest {}).await.unwrap();
    assert!(std::path::Path::new(&taken.into_inner().path).exists());

    // No disk has so much left.
    let tight = Rig::with(|config| config.reserve_bytes = u64::MAX / 2).await;
    let mut recovery = NameNodeRecoveryClient::new(tight.channel());
    let refused = recovery.take_copy(TakeCopyRequest {}).await.unwrap_err();
    let refused = StoreError::from(refused);
    assert_eq!(refused.code, ErrorCode::StorageFull);
    assert!(refused.message.contains("stay free"), "{}", refused.message);
}
