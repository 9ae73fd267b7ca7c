// The schema: every field comes back, every range is kept, and the bytes are those of the golden
// vectors (NM_WRITE_GOLDEN=1 writes them anew after a change of log_version).
#include "replay/log_schema.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <random>

#include "replay/crc32c.h"
#include "replay/log_json.h"
#include "sample_log.h"

namespace node_mesh {
namespace {

using nlohmann::json;
using namespace test;

const std::string golden_path = std::string(NM_GOLDEN_DIR) + "/log_v2.json";

// A chunk whose checksum is right again after its bytes were changed.
Bytes with_crc(Bytes bytes) {
  bytes.resize(bytes.size() - 4);
  ByteWriter out;
  out.bytes(bytes);
  out.u32(crc32c(bytes));
  return out.take();
}

struct Refused {
  const char* name;
  const char* why;  // a part of the error
  Bytes bytes;
};

Bytes chunk_with(std::uint64_t event_count, std::uint64_t last_steps, const Bytes& payload) {
  ByteWriter out;
  out.u8(log_version);
  out.u8(0);
  for (const std::uint64_t value :
       {std::uint64_t{0}, std::uint64_t{10}, std::uint64_t{0}, last_steps, std::uint64_t{0},
        std::uint64_t{0}, std::uint64_t{0}, event_count, std::uint64_t{payload.size()}}) {
    out.varint(value);
  }
  out.bytes(payload);
  out.u32(0);
  return with_crc(out.take());
}

std::vector<Refused> refused_chunks() {
  std::vector<Refused> list;
  const auto add = [&](const char* name, const char* why, const Bytes& payload,
                       std::uint64_t count = 1) {
    list.push_back({name, why, chunk_with(count, 100, payload)});
  };
  Bytes other_version = chunk_with(0, 0, {});
  other_version[0] = std::byte{1};
  list.push_back({"other_version", "log version 1", with_crc(other_version)});
  Bytes unknown_flag = chunk_with(0, 0, {});
  unknown_flag[1] = std::byte{2};
  list.push_back({"unknown_flag", "flags", with_crc(unknown_flag)});
  Bytes wrong_crc = chunk_with(0, 0, {});
  wrong_crc.back() ^= std::byte{1};
  list.push_back({"wrong_crc", "checksum", wrong_crc});
  add("preempt_part_2", "preempt.part", bytes_of_hex("1602"));
  add("preempt_nothing", "preempt.pages", bytes_of_hex("160000"));
  add("preempt_many_pages", "preempt.pages", bytes_of_hex("160021"));
  add("preempt_page_cut_off", "preempt.page.bytes", bytes_of_hex("1600010577"));
  add("kind_0", "no such kind", bytes_of_hex("10"));
  add("kind_9", "no such kind", bytes_of_hex("19"));
  add("top_bit", "event.tag", bytes_of_hex("93"));
  add("rate_without_clock", "rate", bytes_of_hex("5301"));
  add("clock_without_rate", "missing", bytes_of_hex("1105"));
  add("rate_too_high", "ns_per_step",
      bytes_of_hex("5105818080"
                   "04"));
  add("overlong_varint", "shortest", bytes_of_hex("51850001"));
  add("same_and_user_steps", "same position", bytes_of_hex("330101"));
  add("position_stands", "not after", bytes_of_hex("030001"));
  add("position_past_last", "after the chunk", bytes_of_hex("03650001"));
  add("input_too_long", "input.length", bytes_of_hex("120101818004"));
  add("input_cut", "ends inside", bytes_of_hex("12010105aabb"));
  add("control_0", "control.kind", bytes_of_hex("1300"));
  add("control_3", "control.kind", bytes_of_hex("1303"));
  add("frame_too_short", "frame.length", bytes_of_hex("1701010d00000000000000000000000000"));
  add("frame_too_long", "frame.length", bytes_of_hex("170101808004"));
  add("entropy_of_nothing", "entropy.bytes", bytes_of_hex("1800"));
  add("entropy_too_long", "entropy.bytes", bytes_of_hex("188120"));
  add("end_0", "end.reason", bytes_of_hex("1500"));
  add("end_8", "end.reason", bytes_of_hex("1508"));
  add("event_after_end", "follows the end", bytes_of_hex("15011301"), 2);
  add("bytes_after_events", "bytes follow", bytes_of_hex("130100"));
  add("fewer_events", "ends inside", bytes_of_hex("1301"), 2);
  return list;
}

json golden() {
  json chunks = json::array();
  for (const auto& [name, chunk] : sample_chunks()) {
    chunks.push_back(
        {{"name", name}, {"hex", hex_text(encode_chunk(chunk))}, {"meaning", json_of(chunk)}});
  }
  json refused = json::array();
  for (const Refused& one : refused_chunks()) {
    refused.push_back({{"name", one.name}, {"hex", hex_text(one.bytes)}, {"why", one.why}});
  }
  json names = json::array();
  for (std::size_t i = 0; i < register_count; ++i)
    names.push_back(register_name(i));
  return {
      {"log_version", log_version},
      {"register_names", names},
      {"crc32c", {{{"text", "123456789"}, {"crc", crc32c(as_byte_span("123456789"))}}}},
      {"header",
       {{"hex", hex_text(encode_header(sample_config()))}, {"meaning", json_of(sample_config())}}},
      {"chunks", chunks},
      {"refused", refused}};
}

TEST_CASE("crc32c has the published check value") {
  CHECK(crc32c(as_byte_span("123456789")) == 0xe3069283);
}

TEST_CASE("the golden vectors") {
  if (std::getenv("NM_WRITE_GOLDEN") != nullptr) {
    std::ofstream(golden_path) << dump_json(golden(), 1) << "\n";
  }
  std::ifstream file(golden_path);
  REQUIRE(file);
  const json recorded = json::parse(file);
  CHECK(recorded.at("register_names") == golden().at("register_names"));
  CHECK(recorded.at("header") == golden().at("header"));
  REQUIRE(recorded.at("chunks").size() == sample_chunks().size());
  for (const json& vector : recorded.at("chunks")) {
    const std::string name = vector.at("name");
    CAPTURE(name);
    const Chunk chunk = sample_chunks().at(name);
    const auto decoded = decode_chunk(bytes_of_hex(vector.at("hex")));
    REQUIRE(decoded);
    CHECK(*decoded == chunk);
    CHECK(json_of(*decoded) == vector.at("meaning"));
    // How well zstd packs may change with its version; what is not packed may not.
    const bool packed = vector.at("hex").get<std::string>().substr(2, 2) == "01";
    if (!packed) CHECK(hex_text(encode_chunk(chunk)) == vector.at("hex"));
  }
  for (const json& vector : recorded.at("refused")) {
    CAPTURE(vector.at("name").get<std::string>());
    const auto decoded = decode_chunk(bytes_of_hex(vector.at("hex")));
    REQUIRE(!decoded);
    CHECK_MESSAGE(decoded.error().find(vector.at("why").get<std::string>()) != std::string::npos,
                  decoded.error());
  }
}

TEST_CASE("a header comes back, and each of its fields has a range") {
  const auto back = decode_header(encode_header(sample_config()));
  REQUIRE(back);
  CHECK(hex_text(encode_header(*back)) == hex_text(encode_header(sample_config())));

  const auto refused = [](auto change) {
    MachineConfig config = sample_config();
    change(config);
    return !decode_header(encode_header(config));
  };
  CHECK(refused([](MachineConfig& c) { c.cpu_model = "other"; }));
  CHECK(refused([](MachineConfig& c) { c.memory_bytes = 31ull << 20; }));
  CHECK(refused([](MachineConfig& c) { c.memory_bytes += 4096; }));
  CHECK(refused([](MachineConfig& c) { c.memory_bytes = 65ull << 30; }));
  CHECK(refused([](MachineConfig& c) { c.cmdline = std::string(2048, 'a'); }));
  CHECK(refused([](MachineConfig& c) { c.cmdline = std::string(1, '\0'); }));
  CHECK(refused([](MachineConfig& c) { c.start_realtime_ns = UINT64_MAX; }));
  CHECK(refused([](MachineConfig& c) { c.network->mac[0] = 0x01; }));
  CHECK(refused([](MachineConfig& c) { c.network->mac = {}; }));
  CHECK(refused([](MachineConfig& c) { c.network->mtu = 67; }));
  CHECK(refused([](MachineConfig& c) { c.network->mtu = 65'522; }));
  CHECK(refused([](MachineConfig& c) { c.initial_ns_per_step = 1; }));
  CHECK(refused([](MachineConfig& c) { c.initial_ns_per_step = UINT64_MAX; }));
}

TEST_CASE("any cut or flipped bit of a chunk is refused") {
  for (const auto& [name, chunk] : sample_chunks()) {
    CAPTURE(name);
    const Bytes whole = encode_chunk(chunk);
    for (std::size_t cut = 0; cut < whole.size(); ++cut) {
      CHECK(!decode_chunk(std::span(whole).first(cut)));
    }
    for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
      Bytes flipped = whole;
      flipped[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      CHECK(!decode_chunk(flipped));
    }
  }
}

TEST_CASE("random changes behind a right checksum are refused or keep all ranges") {
  std::mt19937_64 random(20240601);
  for (const auto& [name, chunk] : sample_chunks()) {
    const Bytes whole = encode_chunk(chunk);
    for (int round = 0; round < 4000; ++round) {
      Bytes changed = whole;
      const auto changes = 1 + random() % 4;
      for (std::uint64_t i = 0; i < changes; ++i) {
        changed[random() % (changed.size() - 4)] = static_cast<std::byte>(random());
      }
      if (random() % 4 == 0) changed.resize(4 + random() % (changed.size() - 3));
      const auto decoded = decode_chunk(with_crc(changed));
      if (!decoded) continue;
      // What was accepted can be written again, which checks every range once more.
      const auto again = decode_chunk(encode_chunk(*decoded));
      REQUIRE(again);
      CHECK(*again == *decoded);
    }
  }
}

TEST_CASE("an encoder refuses to grow past the limit of a chunk") {
  ChunkEncoder encoder;
  encoder.begin(0, {0, 0});
  std::uint64_t count = 0;
  while (!encoder.full()) {
    encoder.add({{++count, 0}, InputEvent{1, count, Bytes(input_bytes_max)}});
  }
  const auto decoded = decode_chunk(encoder.finish({count, 0}, {}));
  REQUIRE(decoded);
  CHECK(decoded->events.size() == count);
}

}  // namespace
}  // namespace node_mesh
