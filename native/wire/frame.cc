#include "wire/frame.h"

#include "machine/check.h"
#include "replay/log_schema.h"

namespace node_mesh {
namespace {

constexpr std::size_t length_bytes = 4;
constexpr std::size_t compact_bytes = 1 << 16;

std::size_t payload_bytes_max(std::uint8_t type) {
  switch (static_cast<FrameType>(type)) {
    case FrameType::control:
      return control_bytes_max;
    case FrameType::chunk:
      return chunk_bytes_max;
    case FrameType::output:
      return frame_bytes_max - 1;
    case FrameType::network:
      return 8 + frame_event_bytes_max;
  }
  return 0;
}

}  // namespace

Bytes encode_frame(FrameType type, std::span<const std::byte> payload) {
  NM_CHECK(payload.size() < frame_bytes_max);
  ByteWriter out;
  out.u32(static_cast<std::uint32_t>(payload.size() + 1));
  out.u8(static_cast<std::uint8_t>(type));
  out.bytes(payload);
  return out.take();
}

Bytes encode_output_frame(std::uint64_t offset, std::span<const std::byte> bytes) {
  ByteWriter out;
  out.u64(offset);
  out.bytes(bytes);
  return encode_frame(FrameType::output, out.view());
}

Bytes encode_network_frame(std::uint64_t number, std::span<const std::byte> frame) {
  ByteWriter out;
  out.u64(number);
  out.bytes(frame);
  return encode_frame(FrameType::network, out.view());
}

std::expected<std::optional<Frame>, std::string> FrameReader::next() {
  const auto rest = std::span<const std::byte>(buffer_).subspan(start_);
  if (rest.size() < length_bytes + 1) return std::optional<Frame>();
  ByteReader in(rest);
  const std::uint32_t length = in.u32("frame.length");
  if (length == 0 || length > frame_bytes_max) {
    return std::unexpected("a frame of " + std::to_string(length) + " bytes");
  }
  const std::uint8_t type = in.u8("frame.type");
  if (type > static_cast<std::uint8_t>(FrameType::network)) {
    return std::unexpected("a frame of unknown type " + std::to_string(type));
  }
  if (length - 1 > payload_bytes_max(type)) {
    return std::unexpected("a frame of type " + std::to_string(type) + " with " +
                           std::to_string(length) + " bytes");
  }
  if (in.left() < length - 1) return std::optional<Frame>();
  const auto payload = in.bytes("frame.payload", length - 1);
  Frame frame{static_cast<FrameType>(type), Bytes(payload.begin(), payload.end())};
  start_ += length_bytes + length;
  if (start_ == buffer_.size() || start_ > compact_bytes) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(start_));
    start_ = 0;
  }
  return frame;
}

}  // namespace node_mesh
