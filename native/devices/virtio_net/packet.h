// The parts of Ethernet, IP and TCP that a card with offloads has to know. Frames are hostile:
// every length is checked against what is there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace node_mesh {

std::uint16_t big_endian_16(std::span<const std::byte> bytes, std::size_t at);
void put_big_endian_16(std::span<std::byte> bytes, std::size_t at, std::uint16_t value);
std::uint32_t big_endian_32(std::span<const std::byte> bytes, std::size_t at);
void put_big_endian_32(std::span<std::byte> bytes, std::size_t at, std::uint32_t value);

// The Internet checksum: the one's complement sum of 16-bit words, not complemented, on top of
// `sum`.
std::uint32_t sum_words(std::span<const std::byte> bytes, std::uint32_t sum = 0);
std::uint16_t fold_checksum(std::uint32_t sum);  // complemented, as it goes into a packet

// Where the parts of an unfragmented IPv4 packet with TCP or UDP in an Ethernet frame are.
struct TransportLayout {
  std::size_t ip_at = 0;
  std::size_t transport_at = 0;
  std::size_t end = 0;  // of the IP packet; behind it there may be padding
  std::uint8_t protocol = 0;
};
inline constexpr std::uint8_t protocol_tcp = 6, protocol_udp = 17;
std::optional<TransportLayout> find_transport(std::span<const std::byte> frame);

// The sum over the pseudo header of a segment that ends at `end`.
std::uint32_t pseudo_header_sum(std::span<const std::byte> frame, const TransportLayout& layout,
                                std::size_t end);
// Is there a transport checksum, and is it right?
bool transport_checksum_is_right(std::span<const std::byte> frame);

}  // namespace node_mesh
