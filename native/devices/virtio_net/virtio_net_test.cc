#include "devices/virtio_net/virtio_net.h"

#include <algorithm>

#include "devices/virtio/test/virtio_bench.h"
#include "devices/virtio_net/packet.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t checksum = 1, guest_checksum = 2, tso4 = 1 << 11, merge = 1 << 15;
constexpr std::uint64_t buffer = 0x1'0000;

class RecordedFrames final : public NetworkSink {
 public:
  void network_output(std::uint64_t number, std::span<const std::byte> frame) override {
    CHECK(number == frames.size());
    frames.emplace_back(frame.begin(), frame.end());
  }
  std::vector<std::vector<std::byte>> frames;
};

struct Board {
  explicit Board(std::uint16_t mtu = 1500) : net({{2, 1, 2, 3, 4, 5}, mtu}, sent) {}
  TestMemory memory;
  RecordedPciInterrupts interrupts;
  RecordedFrames sent;
  VirtioNet net;
  VirtioPci pci{net, 2, memory, interrupts};
  TestDriver driver{pci, memory};

  // One packet behind a header with these fields.
  void send(std::span<const std::byte> frame, std::uint8_t flags = 0, std::uint8_t type = 0,
            std::uint16_t segment = 0, std::uint16_t start = 0, std::uint16_t offset = 0) {
    memory.put<std::uint8_t>(buffer, flags);
    memory.put<std::uint8_t>(buffer + 1, type);
    memory.put<std::uint16_t>(buffer + 4, segment);
    memory.put<std::uint16_t>(buffer + 6, start);
    memory.put<std::uint16_t>(buffer + 8, offset);
    memory.write(buffer + 12, frame);
    driver.describe(TestDriver::table(1), 0, buffer, 12, chain_next, 1);
    driver.describe(TestDriver::table(1), 1, buffer + 12, static_cast<std::uint32_t>(frame.size()),
                    0, 0);
    driver.offer(1, 0);
    driver.ring(1);
  }
};

// An Ethernet frame with IPv4 and TCP; the payload counts up. Checksums are left open.
std::vector<std::byte> tcp_frame(std::size_t payload_bytes) {
  std::vector<std::byte> frame(14 + 20 + 20 + payload_bytes);
  put_big_endian_16(frame, 12, 0x0800);
  frame[14] = std::byte{0x45};
  put_big_endian_16(frame, 16, static_cast<std::uint16_t>(frame.size() - 14));
  put_big_endian_16(frame, 18, 0xfffe);
  frame[22] = std::byte{64};
  frame[23] = std::byte{6};
  put_big_endian_32(frame, 26, 0x0a000002);
  put_big_endian_32(frame, 30, 0x0a000001);
  put_big_endian_32(frame, 38, 0xffff'ff00);
  frame[46] = std::byte{0x50};
  frame[47] = std::byte{0x99};  // CWR, ACK, PSH, FIN
  for (std::size_t i = 0; i < payload_bytes; ++i)
    frame[54 + i] = static_cast<std::byte>(i * 7);
  return frame;
}

TEST_CASE("virtio_net: the checksum that the guest left open is filled in") {
  Board board;
  board.driver.start(checksum, 2);
  auto frame = tcp_frame(101);
  const auto layout = find_transport(frame);
  REQUIRE(layout);
  put_big_endian_16(
      frame, 50,
      static_cast<std::uint16_t>(~fold_checksum(pseudo_header_sum(frame, *layout, layout->end))));
  board.send(frame, 1, 0, 0, 34, 16);
  REQUIRE(board.sent.frames.size() == 1);
  CHECK(transport_checksum_is_right(board.sent.frames[0]));
  CHECK(board.driver.used_count(1) == 1);
  board.send(frame, 1, 0, 0, 34, 60'000);  // outside the packet
  CHECK(board.sent.frames.size() == 1);
}

TEST_CASE("virtio_net: a large segment leaves as frames that fit") {
  Board board;
  board.driver.start(checksum | tso4, 2);
  const auto large = tcp_frame(4000);
  board.send(large, 1, 1, 1448, 34, 16);
  REQUIRE(board.sent.frames.size() == 3);
  std::vector<std::byte> payload;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& frame = board.sent.frames[i];
    CHECK(frame.size() <= 1514);
    CHECK(transport_checksum_is_right(frame));
    CHECK(fold_checksum(sum_words(std::span(frame).subspan(14, 20))) == 0);
    CHECK(big_endian_16(frame, 18) == static_cast<std::uint16_t>(0xfffe + i));
    CHECK(big_endian_32(frame, 38) == static_cast<std::uint32_t>(0xffff'ff00 + 1448 * i));
    const unsigned flags = std::to_integer<unsigned>(frame[47]);
    CHECK(flags == (i == 0 ? 0x90u : i == 1 ? 0x10u : 0x19u));
    payload.insert(payload.end(), frame.begin() + 54, frame.end());
  }
  CHECK(std::ranges::equal(payload, std::span(large).subspan(54)));
  board.send(large, 1, 1, 1, 34, 16);  // thousands of frames: nobody means that
  board.send(large, 1, 1, 0, 34, 16);
  board.send(std::span(large).first(40), 1, 1, 1448, 34, 16);
  CHECK(board.sent.frames.size() == 3);
  CHECK(board.driver.used_count(1) == 4);
}

TEST_CASE("virtio_net: what is too long or too short for a frame is dropped") {
  Board board;
  board.driver.start(0, 2);
  board.send(std::vector<std::byte>(13));
  board.send(std::vector<std::byte>(1519));
  CHECK(board.sent.frames.empty());
  board.send(std::vector<std::byte>(1518));
  CHECK(board.sent.frames.size() == 1);
}

TEST_CASE("virtio_net: a frame waits for room, and may be spread over buffers") {
  Board board;
  TestDriver& driver = board.driver;
  driver.start(merge | guest_checksum, 2);
  driver.enable_messages(3);
  CHECK(board.net.is_up());
  CHECK_FALSE(board.net.receive_ready());
  auto frame = tcp_frame(1400);
  CHECK_FALSE(board.net.input(frame));
  for (std::uint16_t i = 0; i < 4; ++i) {
    driver.describe(TestDriver::table(0), i, buffer + 0x1000 * i, 800, chain_writable, 0);
    driver.offer(0, i);
  }
  driver.ring(0);
  CHECK(board.net.receive_ready());
  CHECK(board.net.input(frame));
  CHECK(driver.used_count(0) == 2);
  CHECK(board.memory.get<std::uint16_t>(buffer + 10) == 2);
  CHECK(board.memory.get<std::uint8_t>(buffer) == 0);  // its checksum is wrong
  CHECK(driver.used_bytes(0, 0) == 800);
  CHECK(driver.used_bytes(0, 1) == 12 + frame.size() - 800);
  CHECK(board.memory.get<std::byte>(buffer + 0x1000) == frame[788]);
  const auto layout = find_transport(frame);
  put_big_endian_16(frame, 50,
                    fold_checksum(sum_words(std::span(frame).subspan(34),
                                            pseudo_header_sum(frame, *layout, layout->end))));
  CHECK(board.net.input(frame));
  CHECK(board.memory.get<std::uint8_t>(buffer + 0x2000) == 2);
  CHECK_FALSE(board.net.receive_ready());
  CHECK_FALSE(board.net.input(std::vector<std::byte>(13)));
  CHECK(board.interrupts.messages.size() == 2);
  Board fresh;
  fresh.memory.bytes = board.memory.bytes;
  check_round_trip(board.pci, fresh.pci);
}

TEST_CASE("virtio_net: the configuration has address and MTU") {
  Board board(9000);
  CHECK(board.pci.read(0x2000, 4, 0) == 0x0302'0102);
  CHECK(board.pci.read(0x2006, 2, 0) == 1);
  CHECK(board.pci.read(0x200a, 2, 0) == 9000);
  CHECK(board.pci.read(0x2ff8, 8, 0) == 0);
}

}  // namespace
}  // namespace node_mesh
