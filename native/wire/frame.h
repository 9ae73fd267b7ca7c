// Frames between a node and its vmm, on one stream socket (descriptor 3). Both ends run on one host
// and one trusts the other with its guest, but chunks and inputs come from elsewhere: a frame is
// bounded, parsed completely and range-checked before anything looks at it.
//
//   u32le  length of the rest, 1..frame_bytes_max
//   u8     type: 0 control (a CBOR map with "kind", see control.h), 1 chunk (as in the log),
//          2 console output: u64le offset of its first byte since power on, then the bytes,
//          3 an Ethernet frame that the guest sent: u64le its number since power on, the frame
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>

#include "replay/byte_codec.h"

namespace node_mesh {

inline constexpr std::size_t frame_bytes_max = 8 << 20;
inline constexpr std::size_t control_bytes_max = 256 << 10;  // an input of 64 KiB fits well

enum class FrameType : std::uint8_t { control = 0, chunk = 1, output = 2, network = 3 };

struct Frame {
  FrameType type = FrameType::control;
  Bytes payload;
};

Bytes encode_frame(FrameType type, std::span<const std::byte> payload);
Bytes encode_output_frame(std::uint64_t offset, std::span<const std::byte> bytes);
Bytes encode_network_frame(std::uint64_t number, std::span<const std::byte> frame);

// Cuts a stream of bytes into frames.
class FrameReader {
 public:
  void add(std::span<const std::byte> bytes) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
  // The next whole frame, or nothing yet. After an error the stream is of no further use.
  std::expected<std::optional<Frame>, std::string> next();

 private:
  Bytes buffer_;
  std::size_t start_ = 0;
};

}  // namespace node_mesh
