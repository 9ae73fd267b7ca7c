// Ethernet frames on their way to a guest that has no room for them yet. Bounded: when it is full,
// a frame is dropped, as a switch does.
#pragma once

#include <deque>

#include "replay/byte_codec.h"

namespace node_mesh {

inline constexpr std::size_t waiting_frames_max = 4096;
inline constexpr std::size_t waiting_frame_bytes_max = 4 << 20;

struct WaitingFrame {
  std::uint64_t source = 0;
  std::uint64_t seq = 0;
  Bytes bytes;
};

class FrameQueue {
 public:
  // False: there was no room.
  bool add(WaitingFrame frame) {
    if (frames_.size() >= waiting_frames_max ||
        bytes_ + frame.bytes.size() > waiting_frame_bytes_max) {
      return false;
    }
    bytes_ += frame.bytes.size();
    frames_.push_back(std::move(frame));
    return true;
  }
  bool empty() const { return frames_.empty(); }
  WaitingFrame take() {
    WaitingFrame frame = std::move(frames_.front());
    frames_.pop_front();
    bytes_ -= frame.bytes.size();
    return frame;
  }

 private:
  std::deque<WaitingFrame> frames_;
  std::size_t bytes_ = 0;
};

}  // namespace node_mesh
