// Frames: cut and glued as a stream may deliver them, and hostile ones.
#include "wire/frame.h"

#include <doctest/doctest.h>

#include <random>

#include "replay/log_header.h"
#include "replay/log_schema.h"
#include "wire/control.h"

namespace node_mesh {
namespace {

using nlohmann::json;

Bytes control(const json& fields) {
  const auto cbor = json::to_cbor(fields);
  return encode_frame(FrameType::control, std::as_bytes(std::span(cbor)));
}

std::expected<IncomingFrame, std::string> parse(const json& fields) {
  FrameReader reader;
  reader.add(control(fields));
  auto frame = reader.next();
  REQUIRE(frame);
  REQUIRE(*frame);
  return parse_frame(std::move(**frame));
}

json start_fields() {
  return {{"kind", "start"},
          {"config", map_of(MachineConfig())},
          {"kernel", "/k"},
          {"initrd", nullptr},
          {"engine", "auto"}};
}

TEST_CASE("frames come out whole however the stream was cut") {
  Bytes stream;
  for (int i = 0; i < 50; ++i) {
    const Bytes frame = encode_frame(FrameType::chunk, Bytes(static_cast<std::size_t>(i * 97)));
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  for (const std::size_t step : {1u, 3u, 7u, 4096u, 1000000u}) {
    FrameReader reader;
    int count = 0;
    for (std::size_t at = 0; at < stream.size(); at += step) {
      reader.add(std::span(stream).subspan(at, std::min(step, stream.size() - at)));
      for (;;) {
        auto frame = reader.next();
        REQUIRE(frame);
        if (!*frame) break;
        CHECK((*frame)->payload.size() == static_cast<std::size_t>(count * 97));
        ++count;
      }
    }
    CHECK(count == 50);
  }
}

TEST_CASE("lengths and types that cannot be are refused before they are waited for") {
  const auto refused = [](std::uint32_t length, std::uint8_t type) {
    ByteWriter out;
    out.u32(length);
    out.u8(type);
    FrameReader reader;
    reader.add(out.view());
    return !reader.next();
  };
  CHECK(refused(0, 0));
  CHECK(refused(frame_bytes_max + 1, 2));
  CHECK(refused(UINT32_MAX, 0));
  CHECK(refused(10, 4));
  CHECK(refused(static_cast<std::uint32_t>(frame_event_bytes_max) + 10, 3));
  CHECK(refused(control_bytes_max + 2, 0));
  CHECK(refused(static_cast<std::uint32_t>(chunk_bytes_max) + 2, 1));
  CHECK(!refused(static_cast<std::uint32_t>(chunk_bytes_max) + 1, 1));
}

TEST_CASE("each kind of control frame") {
  CHECK(std::holds_alternative<StartFrame>(*parse(start_fields())));
  CHECK(std::holds_alternative<GoLiveFrame>(*parse({{"kind", "go_live"}})));
  CHECK(std::holds_alternative<StatsFrame>(*parse({{"kind", "stats"}})));
  CHECK(std::holds_alternative<ShutdownFrame>(*parse({{"kind", "shutdown"}})));
  CHECK(std::holds_alternative<StopFrame>(*parse({{"kind", "control"}, {"action", "stop"}})));
  const auto committed = parse({{"kind", "committed"}, {"chunk", 7}});
  CHECK(std::get<CommittedFrame>(*committed).chunk == 7);
  const auto input = parse(
      {{"kind", "input"}, {"source", UINT64_MAX}, {"seq", 3}, {"data", json::binary({65, 66})}});
  REQUIRE(input);
  CHECK(std::get<InputFrame>(*input).source == UINT64_MAX);
  CHECK(std::get<InputFrame>(*input).bytes.size() == 2);
}

TEST_CASE("fields that are missing, unknown, ill-typed or out of range are refused") {
  CHECK(!parse(json::array()));
  CHECK(!parse({{"kind", 3}}));
  CHECK(!parse({{"kind", "nothing"}}));
  CHECK(!parse({{"kind", "go_live"}, {"more", 1}}));
  CHECK(!parse({{"kind", "committed"}}));
  CHECK(!parse({{"kind", "committed"}, {"chunk", -1}}));
  CHECK(!parse({{"kind", "committed"}, {"chunk", UINT64_MAX}}));
  CHECK(!parse({{"kind", "control"}, {"action", "go"}}));
  CHECK(!parse({{"kind", "input"}, {"source", 1}, {"seq", 1}, {"data", "text"}}));
  CHECK(!parse({{"kind", "input"},
                {"source", 1},
                {"seq", 1},
                {"data", json::binary(std::vector<std::uint8_t>(input_bytes_max + 1))}}));
  json start = start_fields();
  start["engine"] = "other";
  CHECK(!parse(start));
  start = start_fields();
  start["kernel"] = std::string(5000, 'x');
  CHECK(!parse(start));
  start = start_fields();
  start["config"]["memory_bytes"] = 5;
  CHECK(!parse(start));
  start = start_fields();
  start["config"]["unknown"] = 5;
  CHECK(!parse(start));
}

TEST_CASE("changed frames never crash the parser") {
  std::mt19937_64 random(11);
  const Bytes whole = control(start_fields());
  for (int round = 0; round < 50'000; ++round) {
    Bytes changed = whole;
    for (auto i = 1 + random() % 5; i > 0; --i) {
      changed[4 + random() % (changed.size() - 4)] = static_cast<std::byte>(random());
    }
    FrameReader reader;
    reader.add(changed);
    auto frame = reader.next();
    if (frame && *frame) static_cast<void>(parse_frame(std::move(**frame)));
  }
}

}  // namespace
}  // namespace node_mesh
