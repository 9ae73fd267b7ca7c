#include "devices/virtio_net/packet.h"

#include <cstring>

namespace node_mesh {
namespace {

constexpr std::size_t ip_at = 14, ip_header_min = 20, udp_header_bytes = 8, tcp_header_min = 20;
constexpr std::uint16_t ethertype_ipv4 = 0x0800;
constexpr std::uint16_t fragment_bits = 0x3fff;  // more fragments, or an offset

}  // namespace

std::uint16_t big_endian_16(std::span<const std::byte> bytes, std::size_t at) {
  return static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[at]) << 8 |
                                    std::to_integer<unsigned>(bytes[at + 1]));
}

void put_big_endian_16(std::span<std::byte> bytes, std::size_t at, std::uint16_t value) {
  bytes[at] = static_cast<std::byte>(value >> 8);
  bytes[at + 1] = static_cast<std::byte>(value);
}

std::uint32_t big_endian_32(std::span<const std::byte> bytes, std::size_t at) {
  return std::uint32_t{big_endian_16(bytes, at)} << 16 | big_endian_16(bytes, at + 2);
}

void put_big_endian_32(std::span<std::byte> bytes, std::size_t at, std::uint32_t value) {
  put_big_endian_16(bytes, at, static_cast<std::uint16_t>(value >> 16));
  put_big_endian_16(bytes, at + 2, static_cast<std::uint16_t>(value));
}

// The sum does not depend on the order of bytes, but for a last swap: so words of the host's order
// are added, four bytes at a time.
std::uint32_t sum_words(std::span<const std::byte> bytes, std::uint32_t sum) {
  std::uint64_t total = 0;
  std::size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) {
    std::uint32_t word;
    std::memcpy(&word, bytes.data() + i, sizeof word);
    total += word;
  }
  std::uint32_t last = 0;
  std::memcpy(&last, bytes.data() + i, bytes.size() - i);
  total += last;
  while (total >> 16 != 0)
    total = (total & 0xffff) + (total >> 16);
  return sum + __builtin_bswap16(static_cast<std::uint16_t>(total));
}

std::uint16_t fold_checksum(std::uint32_t sum) {
  while (sum >> 16 != 0)
    sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

std::optional<TransportLayout> find_transport(std::span<const std::byte> frame) {
  if (frame.size() < ip_at + ip_header_min || big_endian_16(frame, 12) != ethertype_ipv4) {
    return std::nullopt;
  }
  const auto first = std::to_integer<unsigned>(frame[ip_at]);
  const std::size_t header_bytes = 4 * (first & 15u);
  const std::size_t total = big_endian_16(frame, ip_at + 2);
  if (first >> 4 != 4 || header_bytes < ip_header_min) return std::nullopt;
  if (total < header_bytes || total > frame.size() - ip_at) return std::nullopt;
  if ((big_endian_16(frame, ip_at + 6) & fragment_bits) != 0) return std::nullopt;
  const auto protocol = std::to_integer<std::uint8_t>(frame[ip_at + 9]);
  const std::size_t least = protocol == protocol_tcp   ? tcp_header_min
                            : protocol == protocol_udp ? udp_header_bytes
                                                       : SIZE_MAX;
  if (total - header_bytes < least) return std::nullopt;
  return TransportLayout{ip_at, ip_at + header_bytes, ip_at + total, protocol};
}

std::uint32_t pseudo_header_sum(std::span<const std::byte> frame, const TransportLayout& layout,
                                std::size_t end) {
  const auto length = static_cast<std::uint32_t>(end - layout.transport_at);
  return sum_words(frame.subspan(layout.ip_at + 12, 8), length + layout.protocol);
}

bool transport_checksum_is_right(std::span<const std::byte> frame) {
  const auto layout = find_transport(frame);
  if (!layout) return false;
  const std::size_t checksum_at =
      layout->transport_at + (layout->protocol == protocol_tcp ? 16 : 6);
  if (layout->protocol == protocol_udp && big_endian_16(frame, checksum_at) == 0) return false;
  const auto segment = frame.subspan(layout->transport_at, layout->end - layout->transport_at);
  return fold_checksum(sum_words(segment, pseudo_header_sum(frame, *layout, layout->end))) == 0;
}

}  // namespace node_mesh
