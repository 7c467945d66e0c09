//! The mouse: where it points, and the movements of a click as the browser wants them described.

use headless_chrome::protocol::cdp::Input::{DispatchMouseEvent, DispatchMouseEventTypeOption as Mouse, MouseButton};
use serde::Deserialize;

/// A place in the window, in CSS pixels.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub(super) struct Point {
    x: f64,
    y: f64,
}

impl Point {
    /// Go there, press the left button, release it.
    pub(super) fn click(self) -> [DispatchMouseEvent; 3] {
        [(Mouse::MouseMoved, 0), (Mouse::MousePressed, 1), (Mouse::MouseReleased, 0)]
            .map(|(kind, buttons)| mouse(kind, self, buttons))
    }
}

/// One movement of the mouse; `buttons` says which are held after it.
fn mouse(kind: Mouse, point: Point, buttons: u32) -> DispatchMouseEvent {
    let moved = kind == Mouse::MouseMoved;
    DispatchMouseEvent {
        Type: kind,
        x: point.x,
        y: point.y,
        modifiers: None,
        timestamp: None,
        button: Some(if moved { MouseButton::None } else { MouseButton::Left }),
        buttons: Some(buttons),
        click_count: Some(u32::from(!moved)),
        force: None,
        tangential_pressure: None,
        tilt_x: None,
        tilt_y: None,
        twist: None,
        delta_x: None,
        delta_y: None,
        pointer_Type: None,
    }
}
