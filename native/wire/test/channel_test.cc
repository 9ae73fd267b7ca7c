// The channel against the other end of a socket pair: order, bounds both ways, and a peer that
// goes.
#include "wire/channel.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

namespace node_mesh {
namespace {

using nlohmann::json;

constexpr std::uint64_t soon_ns = 5'000'000'000;

struct Pair {
  Pair() {
    int both[2] = {-1, -1};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both) == 0);
    near = FileDescriptor(both[0]);
    far = FileDescriptor(both[1]);
  }
  FileDescriptor near, far;
};

Bytes input_frame(std::uint64_t seq, std::size_t size) {
  return encode_control(
      "input",
      {{"source", 1}, {"seq", seq}, {"data", json::binary(std::vector<std::uint8_t>(size))}});
}

TEST_CASE("frames arrive in order, and kick") {
  Pair pair;
  MonotonicClock clock;
  std::atomic<int> kicks = 0;
  Channel channel(std::move(pair.near), clock);
  channel.set_kick([&] { ++kicks; });
  for (std::uint64_t i = 0; i < 100; ++i)
    REQUIRE(write_all(pair.far.get(), input_frame(i, 10)));
  for (std::uint64_t i = 0; i < 100; ++i) {
    auto arrival = channel.take();
    while (!arrival) {
      channel.wait(soon_ns);
      arrival = channel.take();
    }
    CHECK(std::get<InputFrame>(arrival->frame).seq == i);
  }
  CHECK(kicks > 0);
  channel.set_kick(nullptr);
}

TEST_CASE("a node that does not read is noticed and blocks nobody") {
  Pair pair;
  MonotonicClock clock;
  Channel channel(std::move(pair.near), clock);
  std::size_t sent = 0;
  const Bytes frame = encode_output_frame(0, Bytes(100'000));
  while (!channel.congested()) {
    channel.send(frame);
    sent += frame.size();
  }
  CHECK(sent >= outgoing_bytes_high);
  std::size_t got = 0;
  Bytes block(1 << 20);
  while (got < sent) {
    const ssize_t count = ::read(pair.far.get(), block.data(), block.size());
    REQUIRE(count > 0);
    got += static_cast<std::size_t>(count);
  }
  channel.drain(soon_ns);
  CHECK(!channel.congested());
}

TEST_CASE("a full incoming queue makes the node wait, and goes on when it is emptied") {
  Pair pair;
  MonotonicClock clock;
  Channel channel(std::move(pair.near), clock);
  constexpr std::uint64_t count = 400;  // of 64 KiB: more than the queue and the socket hold
  std::thread node([&] {
    for (std::uint64_t i = 0; i < count; ++i) {
      if (!write_all(pair.far.get(), input_frame(i, 65'536))) return;
    }
  });
  for (std::uint64_t i = 0; i < count; ++i) {
    auto arrival = channel.take();
    while (!arrival) {
      channel.wait(soon_ns);
      arrival = channel.take();
    }
    CHECK(std::get<InputFrame>(arrival->frame).seq == i);
  }
  node.join();
}

TEST_CASE("a node that is gone, and one that sends garbage") {
  MonotonicClock clock;
  {
    Pair pair;
    Channel channel(std::move(pair.near), clock);
    pair.far = FileDescriptor();
    channel.wait(soon_ns);
    CHECK(channel.closed());
    CHECK(channel.error().empty());
  }
  {
    Pair pair;
    Channel channel(std::move(pair.near), clock);
    REQUIRE(write_all(pair.far.get(), Bytes(100, std::byte{0xff})));
    channel.wait(soon_ns);
    CHECK(channel.closed());
    CHECK(!channel.error().empty());
    channel.send(encode_control("error", {{"message", "no"}}));
    channel.drain(soon_ns);
    Bytes block(1000);
    CHECK(::read(pair.far.get(), block.data(), block.size()) > 5);
  }
}

}  // namespace
}  // namespace node_mesh
