#include "devices/virtio_net/virtio_net.h"

#include <algorithm>

#include "devices/virtio_net/packet.h"
#include "machine/check.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t feature_checksum = 1u << 0, feature_guest_checksum = 1u << 1,
                        feature_mtu = 1u << 3, feature_mac = 1u << 5, feature_tso4 = 1u << 11,
                        feature_merge = 1u << 15, feature_status = 1u << 16;

// The header in front of each packet: flags, segmentation type, header length, segment size,
// checksum start and offset, number of buffers.
constexpr std::size_t header_bytes = 12;
constexpr std::size_t flags_at = 0, type_at = 1, segment_at = 4, start_at = 6, offset_at = 8,
                      buffers_at = 10;
constexpr std::byte flag_needs_checksum{1}, flag_data_valid{2};
constexpr std::byte type_none{0}, type_tcp4{1};
constexpr std::size_t packet_bytes_max = header_bytes + (64 << 10) + 64;
constexpr std::size_t segments_max = 256;         // of one packet; more is no sane segment size
constexpr unsigned chains_max = 64;               // that one frame may be spread over
constexpr std::size_t merged_chain_bytes = 1500;  // what drivers put into one, at least

std::uint16_t little_endian_16(std::span<const std::byte> bytes, std::size_t at) {
  return static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[at]) |
                                    std::to_integer<unsigned>(bytes[at + 1]) << 8);
}

// Where TCP keeps what differs from segment to segment.
constexpr std::size_t tcp_sequence = 4, tcp_header_length = 12, tcp_flags = 13, tcp_checksum = 16;
constexpr std::byte tcp_on_last_only{0x09};   // FIN, PSH
constexpr std::byte tcp_on_first_only{0x80};  // CWR

}  // namespace

VirtioNet::VirtioNet(const NetworkConfig& network, NetworkSink& sink)
    : mtu_(network.mtu), sink_(sink) {
  NM_CHECK(mtu_ >= network_mtu_min && mtu_ <= network_mtu_max);
  constexpr std::uint16_t link_up = 1, queue_pairs = 1;
  StateWriter config;
  for (const std::uint8_t byte : network.mac)
    config.u8(byte);
  config.u16(link_up);
  config.u16(queue_pairs);
  config.u16(mtu_);
  config_ = config.take();
  packet_.resize(packet_bytes_max);
}

std::uint64_t VirtioNet::features() const {
  return feature_checksum | feature_guest_checksum | feature_mtu | feature_mac | feature_tso4 |
         feature_merge | feature_status;
}

void VirtioNet::notified(unsigned queue, std::uint64_t) {
  if (queue == transmit_queue) {
    send_all();
  } else {
    look_at_receive_queue();
  }
}

// ---- Out

void VirtioNet::send_all() {
  VirtQueue& queue = port().queue(transmit_queue);
  chains_.resize(std::max<std::size_t>(chains_.size(), 1));
  DescriptorChain& chain = chains_.front();
  while (queue.take(chain)) {
    const std::uint64_t bytes = chain.readable_bytes();
    if (bytes >= header_bytes + ethernet_header_bytes && bytes <= packet_.size()) {
      const auto packet = std::span(packet_).first(static_cast<std::size_t>(bytes));
      chain.read(0, packet);
      send(packet);
    }
    queue.put_used(chain, 0);
  }
}

void VirtioNet::send(std::span<std::byte> packet) {
  const auto header = packet.first(header_bytes);
  const auto frame = packet.subspan(header_bytes);
  if (header[type_at] != type_none) {
    // Segments get their checksums when they are cut.
    if (header[type_at] == type_tcp4) send_segments(frame, little_endian_16(header, segment_at));
    return;
  }
  if ((header[flags_at] & flag_needs_checksum) != std::byte{0}) {
    const std::size_t start = little_endian_16(header, start_at);
    const std::size_t at = start + little_endian_16(header, offset_at);
    if (start >= frame.size() || at + 2 > frame.size()) return;
    put_big_endian_16(frame, at, fold_checksum(sum_words(frame.subspan(start))));
  }
  emit(frame);
}

void VirtioNet::emit(std::span<const std::byte> frame) {
  constexpr std::size_t vlan_tag_bytes = 4;
  if (frame.size() > mtu_ + ethernet_header_bytes + vlan_tag_bytes) return;
  if (frame.size() > ethernet_frame_bytes_max) return;
  sink_.network_output(frames_sent_++, frame);
}

// Cuts one large TCP segment into frames, each with its own sequence number, lengths and checksums.
void VirtioNet::send_segments(std::span<const std::byte> frame, std::uint16_t segment_bytes) {
  const auto layout = find_transport(frame);
  if (!layout || layout->protocol != protocol_tcp || segment_bytes == 0) return;
  const std::size_t tcp_at = layout->transport_at;
  const std::size_t tcp_bytes =
      4 * (std::to_integer<std::size_t>(frame[tcp_at + tcp_header_length]) >> 4);
  const std::size_t payload_at = tcp_at + tcp_bytes;
  if (tcp_bytes < 20 || payload_at > layout->end) return;
  const std::size_t payload_bytes = layout->end - payload_at;
  if (payload_bytes / segment_bytes > segments_max) return;
  const std::uint16_t ip_id = big_endian_16(frame, layout->ip_at + 4);
  const std::uint32_t sequence = big_endian_32(frame, tcp_at + tcp_sequence);
  unsigned index = 0;
  std::size_t done = 0;
  do {
    const std::size_t part = std::min<std::size_t>(segment_bytes, payload_bytes - done);
    segment_.assign(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(payload_at));
    const auto piece = frame.subspan(payload_at + done, part);
    segment_.insert(segment_.end(), piece.begin(), piece.end());
    const std::span<std::byte> out = segment_;
    put_big_endian_16(out, layout->ip_at + 2,
                      static_cast<std::uint16_t>(out.size() - layout->ip_at));
    put_big_endian_16(out, layout->ip_at + 4, static_cast<std::uint16_t>(ip_id + index));
    put_big_endian_16(out, layout->ip_at + 10, 0);
    const auto ip_header = out.subspan(layout->ip_at, tcp_at - layout->ip_at);
    put_big_endian_16(out, layout->ip_at + 10, fold_checksum(sum_words(ip_header)));
    put_big_endian_32(out, tcp_at + tcp_sequence, sequence + static_cast<std::uint32_t>(done));
    if (done + part < payload_bytes) out[tcp_at + tcp_flags] &= ~tcp_on_last_only;
    if (done != 0) out[tcp_at + tcp_flags] &= ~tcp_on_first_only;
    put_big_endian_16(out, tcp_at + tcp_checksum, 0);
    const std::uint32_t pseudo = pseudo_header_sum(out, *layout, out.size());
    put_big_endian_16(out, tcp_at + tcp_checksum,
                      fold_checksum(sum_words(out.subspan(tcp_at), pseudo)));
    emit(out);
    done += part;
    ++index;
  } while (done < payload_bytes);
}

// ---- In

unsigned VirtioNet::chains_for_largest() const {
  if (!negotiated(feature_merge)) return 1;
  const std::size_t bytes = header_bytes + ethernet_header_bytes + mtu_;
  const auto chains = static_cast<unsigned>((bytes + merged_chain_bytes) / merged_chain_bytes);
  return std::min<unsigned>(chains, port().queue(receive_queue).size());
}

// Whether there is room is looked at only when the driver rings or a frame was delivered, so that
// it is a function of the machine's history, not of who asks when.
void VirtioNet::look_at_receive_queue() {
  receive_ready_ = port().queue(receive_queue).has_chains(chains_for_largest());
}

bool VirtioNet::input(std::span<const std::byte> frame) {
  if (!is_up() || frame.size() < ethernet_frame_bytes_min ||
      frame.size() > ethernet_frame_bytes_max) {
    return false;
  }
  const bool delivered = deliver(frame);
  look_at_receive_queue();
  port().publish();
  return delivered;
}

bool VirtioNet::deliver(std::span<const std::byte> frame) {
  VirtQueue& queue = port().queue(receive_queue);
  const std::size_t bytes = header_bytes + frame.size();
  const unsigned limit = negotiated(feature_merge) ? chains_max : 1;
  unsigned count = 0;
  std::uint64_t room = 0;
  while (room < bytes && count < limit) {
    if (chains_.size() <= count) chains_.resize(count + 1);
    if (!queue.take(chains_[count])) break;
    room += chains_[count++].writable_bytes();
  }
  // The header must lie in the first chain: its last field is filled in when the count is known.
  if (room < bytes || chains_[0].writable_bytes() < header_bytes) {
    queue.put_back(count);
    return false;
  }
  std::array<std::byte, header_bytes> header{};
  header[buffers_at] = static_cast<std::byte>(count);
  if (negotiated(feature_guest_checksum) && transport_checksum_is_right(frame)) {
    header[flags_at] = flag_data_valid;
  }
  std::size_t done = 0;
  for (unsigned i = 0; i < count; ++i) {
    const std::size_t skip = i == 0 ? chains_[i].write(0, header) : 0;
    const std::size_t part = chains_[i].write(skip, frame.subspan(done));
    done += part;
    queue.put_used(chains_[i], static_cast<std::uint32_t>(skip + part));
  }
  return true;
}

void VirtioNet::save(StateWriter& out) const {
  out.u64(frames_sent_);
  out.flag(receive_ready_);
}

bool VirtioNet::load(StateReader& in) {
  frames_sent_ = in.u64();
  receive_ready_ = in.flag();
  return in.ok();
}

}  // namespace node_mesh
