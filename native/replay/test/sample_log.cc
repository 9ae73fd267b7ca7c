#include "sample_log.h"

#include "replay/sha256.h"

namespace node_mesh::test {

MachineConfig sample_config() {
  MachineConfig config;
  config.cmdline = "console=ttyS0 quiet";
  config.start_realtime_ns = 1'700'000'000'123'456'789;
  for (std::size_t i = 0; i < 32; ++i) {
    config.rng_seed[i] = static_cast<std::uint8_t>(i);
    config.kernel_sha256[i] = static_cast<std::uint8_t>(0x80 + i);
  }
  config.initial_ns_per_step = 3ull << 31;
  config.rng = true;
  config.disks = {{.content = config.kernel_sha256, .size_bytes = 5'000'000'512},
                  {.content = config.rng_seed, .size_bytes = 512, .read_only = true}};
  config.network = NetworkConfig{{0x02, 0, 0, 0xaa, 0xbb, 0xcc}, 9000};
  return config;
}

DigestEvent sample_digest(std::uint64_t changed_pages) {
  DigestEvent digest;
  for (std::size_t i = 0; i < register_count; ++i)
    digest.registers[i] = i * i * i;
  digest.registers[16] = 0xffffffff81000000;
  digest.devices = {{"pit", 0x1122334455667788}, {"serial", 0}};
  digest.memory_sum = 0xfedcba9876543210;
  digest.changed_pages = changed_pages;
  if (changed_pages > digest_pages_max) {
    for (std::size_t i = 0; i < digest_bucket_count; ++i) {
      digest.buckets[i] = static_cast<std::uint32_t>(i * 0x01010101u);
    }
  } else {
    for (std::uint64_t i = 0; i < changed_pages; ++i) {
      digest.pages.push_back({i * 3 + 1, static_cast<std::uint32_t>(0x9000'0000 + i)});
    }
  }
  return digest;
}

UserState sample_state() {
  UserState state;
  for (std::size_t i = 0; i < state.gpr.size(); ++i)
    state.gpr[i] = ~(i * 0x0123456789abcdef);
  state.rip = 0x7fff12345678;
  state.rflags = 0x246;
  state.segments[1] = {0x33, 0, 0xffffffff, 0xa0fb};
  state.segments[2] = {0x2b, 0, 0xffffffff, 0xc0f3};
  state.segments[4] = {0, 0x7f0012345678, 0, 0};
  for (std::size_t i = 0; i < 24; ++i)
    state.fpu.x87[i] = static_cast<std::uint8_t>(i + 1);
  for (std::size_t i = 32; i < 160; ++i)
    state.fpu.x87[i] = static_cast<std::uint8_t>(3 * i);
  for (std::size_t i = 0; i < 16; ++i)
    state.fpu.xmm[i].fill(static_cast<std::uint8_t>(0xf0 - i));
  state.fpu.mxcsr = 0x1fa0;
  return state;
}

Preemption::Page sample_page(std::uint64_t gfn) {
  Preemption::Page page;
  page.gfn = gfn;
  for (std::size_t i = 0; i < page.bytes.size(); ++i)
    page.bytes[i] = static_cast<std::byte>(i * 7 + gfn);
  return page;
}

std::map<std::string, Chunk> sample_chunks() {
  const std::uint64_t rate = 5ull << 31;
  std::map<std::string, Chunk> chunks;
  chunks["empty"] = {0, {0, 0}, {0, 0}, 0, 0, {}};
  chunks["no_events"] = {7, {1000, 3}, {90'000, 0}, 512, 300, {}};
  chunks["clock"] = {1,
                     {1000, 0},
                     {500'000, 12},
                     99,
                     0,
                     {{{1000, 0}, ClockEvent{5'000'000, rate}},
                      {{1000, 0}, ClockEvent{5'000'000, rate}},
                      {{1500, 0}, ClockEvent{6'000'000, rate}},
                      {{1500, 77}, ClockEvent{6'250'000, 2 * rate}},
                      {{400'000, 0}, ClockEvent{9'000'000, 0}}}};
  chunks["input"] = {2,
                     {0, 0},
                     {10, 0},
                     0,
                     0,
                     {{{5, 9}, InputEvent{UINT64_MAX, 1, bytes_of_text("ls -l\n")}},
                      {{5, 9}, InputEvent{0, counter_max, {}}}}};
  chunks["digest_pages"] = {3, {100, 0}, {100, 0}, 8, 0, {{{100, 0}, sample_digest(3)}}};
  chunks["digest_buckets"] = {4, {100, 0}, {200, 0}, 8, 0, {{{150, 4}, sample_digest(70'000)}}};
  chunks["end"] = {5,
                   {1ull << 40, 0},
                   {1ull << 40, 1ull << 33},
                   4096,
                   1ull << 40,
                   {{{1ull << 40, 1}, ControlEvent{ControlKind::stop}},
                    {{1ull << 40, 1ull << 33}, EndEvent{EndReason::stopped}}}};
  chunks["preempt"] = {9,
                       {50, 0},
                       {60, 0},
                       0,
                       0,
                       {{{50, 7}, PreemptEvent{std::nullopt, {sample_page(3), sample_page(4)}}},
                        {{50, 7}, PreemptEvent{sample_state(), {sample_page(1ull << 25)}}},
                        {{51, 0}, PreemptEvent{sample_state(), {}}}}};
  chunks["devices"] = {8,
                       {20, 0},
                       {90, 0},
                       0,
                       17,
                       {{{20, 0}, EntropyEvent{bytes_of_text("sixteen bytes...")}},
                        {{21, 3}, FrameEvent{9, 4, bytes_of_text("an Ethernet frame")}},
                        {{90, 0}, ControlEvent{ControlKind::power_button}}}};
  Chunk many{6, {0, 0}, {1'000'000, 0}, 0, 0, {}};
  for (std::uint64_t i = 1; i <= 200; ++i) {
    many.events.push_back({{i * 1000, 0}, ClockEvent{i * 2500, rate}});
  }
  chunks["compressed"] = many;
  return chunks;
}

std::string hex_text(std::span<const std::byte> bytes) {
  return hex_of({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
}

Bytes bytes_of_hex(const std::string& hex) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

Bytes bytes_of_text(std::string_view text) {
  const auto view = as_byte_span(text);
  return Bytes(view.begin(), view.end());
}

}  // namespace node_mesh::test
