//! Our annotations on kinds that do not take them.

use crate::index::{World, name_of};
use crate::{Message, code};

const OURS: [&str; 2] = ["isthmus.io/export", "isthmus.io/export-labels"];

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for tree in world.trees.iter().filter(|tree| name_of(tree).1 != "ServiceEntry") {
        for name in OURS {
            let path = format!("metadata.annotations.{name}");
            if tree.find(&path).is_some() {
                let text = format!("Misplaced annotation: {name} can only be applied to ServiceEntry");
                messages.push(Message::new(code::MISPLACED_ANNOTATION, tree, path, text));
            }
        }
    }
}
