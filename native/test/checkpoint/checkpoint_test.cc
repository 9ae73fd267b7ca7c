// Checkpoints on disk: written while the guest goes on, read back at any of them, thinned out, and
// refused by name when a bit of them is another.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>

#include "checkpoint/checkpoint_loader.h"
#include "checkpoint/checkpoint_writer.h"
#include "test/guests/tiny_guest.h"

namespace node_mesh {
namespace {

namespace fs = std::filesystem;

class Directory {
 public:
  Directory() {
    std::string name = (fs::temp_directory_path() / "nm_checkpoint_XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Directory() { fs::remove_all(path); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  std::vector<fs::path> files(std::string_view suffix) const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.path().string().ends_with(suffix)) found.push_back(entry.path());
    }
    std::ranges::sort(found);
    return found;
  }
  fs::path path;
};

class NoConsole final : public ConsoleSink {
 public:
  void console_output(std::uint64_t, std::span<const std::byte>) override {}
};

// A guest whose memory the test itself scribbles over, with its own idea of what it must be.
class Subject {
 public:
  explicit Subject(const fs::path& directory, std::size_t keep = 0)
      : guest("ticker"), digest(guest.machine().memory().page_count()) {
    auto opened = CheckpointWriter::open({directory, keep}, guest.machine());
    REQUIRE(opened);
    writer = std::move(*opened);
  }

  void scribble(std::uint64_t seed, unsigned pages) {
    std::mt19937_64 random(seed);
    std::vector<std::byte> page(page_bytes);
    for (unsigned i = 0; i < pages; ++i) {
      const std::uint64_t gfn = 2048 + random() % 6000;
      const auto fill = static_cast<std::byte>(random() % 7);  // 0: a page of zeros again
      std::ranges::fill(page, fill);
      if (random() % 3 == 0) std::memcpy(page.data(), &gfn, sizeof gfn);
      REQUIRE(guest.machine().memory().write(gfn * page_bytes, page));
    }
  }

  CheckpointWriter::Result checkpoint() {
    const MachineConfig config = TinyGuest::default_config();
    const auto begun = writer->begin(digest, {config, ++chunk, inputs});
    REQUIRE_MESSAGE(begun, begun.error());
    writer->release();
    return *writer->wait();
  }

  Bytes memory() {
    const auto* base = guest.machine().memory().base();
    return Bytes(base, base + guest.machine().memory().size_bytes());
  }

  TinyGuest guest;
  StateDigest digest;
  InputSources inputs;
  std::uint64_t chunk = 0;
  std::unique_ptr<CheckpointWriter> writer;
};

Bytes memory_of(RestoredMachine& restored) {
  const auto* base = restored.machine->memory().base();
  return Bytes(base, base + restored.machine->memory().size_bytes());
}

TEST_CASE("each of many checkpoints has the memory of its moment") {
  const Directory directory;
  Subject subject(directory.path);
  subject.inputs.note(3, 4);
  subject.inputs.note(5, 6);
  std::vector<Bytes> memories;
  std::vector<fs::path> files;
  std::vector<std::uint64_t> digests;
  for (unsigned round = 0; round < 12; ++round) {
    subject.scribble(round, round % 4 == 0 ? 3000 : 50);
    subject.guest.run({1000 * (round + 1), 0});
    if (round % 3 == 1) subject.digest.take(subject.guest.machine());
    const auto written = subject.checkpoint();
    REQUIRE_MESSAGE(written, written.error());
    CHECK(written->pause_ns < 1'000'000'000);
    files.push_back(manifest_path(directory.path, written->name));
    memories.push_back(subject.memory());
    if (round % 4 != 0) CHECK(written->pages < 100);
  }
  NoConsole console;
  for (std::size_t i = 0; i < files.size(); ++i) {
    auto restored = restore_checkpoint(files[i], console);
    REQUIRE_MESSAGE(restored, restored.error());
    CHECK(memory_of(*restored) == memories[i]);
    CHECK(restored->manifest.chunk == i + 1);
    CHECK(restored->machine->position() == restored->manifest.position);
    CHECK(restored->manifest.inputs.newest_first() == subject.inputs.newest_first());
  }
  // The last one's digest, and its list of changed pages, are those of the machine that went on.
  auto restored = restore_checkpoint(files.back(), console);
  REQUIRE(restored);
  CHECK(restored->digest.take(*restored->machine) == subject.digest.take(subject.guest.machine()));
}

TEST_CASE("the guest goes on while its checkpoint is written") {
  const Directory directory;
  Subject subject(directory.path);
  subject.scribble(1, 4000);
  const Bytes before = subject.memory();
  const std::string then = fingerprint_of(subject.guest.machine());
  const MachineConfig config = TinyGuest::default_config();
  REQUIRE(subject.writer->begin(subject.digest, {config, 1, subject.inputs}));
  subject.scribble(2, 4000);
  subject.guest.run({5000, 0});
  CHECK(!subject.writer->poll());  // it has no leave yet
  CHECK(directory.files(manifest_suffix).empty());
  CHECK(!subject.writer->begin(subject.digest, {config, 1, subject.inputs}));
  subject.writer->release();
  const auto written = *subject.writer->wait();
  REQUIRE(written);
  NoConsole console;
  auto restored = restore_checkpoint(manifest_path(directory.path, written->name), console);
  REQUIRE_MESSAGE(restored, restored.error());
  CHECK(memory_of(*restored) == before);
  CHECK(fingerprint_of(*restored->machine) == then);
  // What was written meanwhile is in the next one.
  const auto next = subject.checkpoint();
  REQUIRE(next);
  restored = restore_checkpoint(manifest_path(directory.path, next->name), console);
  REQUIRE(restored);
  CHECK(memory_of(*restored) == subject.memory());
}

TEST_CASE("a restored machine's checkpoints go on from the one it came from") {
  const Directory directory;
  Subject subject(directory.path);
  subject.scribble(1, 4000);
  const auto first = subject.checkpoint();
  REQUIRE(first);
  NoConsole console;
  const fs::path file = manifest_path(directory.path, first->name);
  for (const bool elsewhere : {false, true}) {
    CAPTURE(elsewhere);
    const Directory other;
    auto restored = restore_checkpoint(file, console);
    REQUIRE(restored);
    auto writer =
        CheckpointWriter::open({elsewhere ? other.path : directory.path, 0}, *restored->machine);
    REQUIRE(writer);
    (*writer)->start_from(restored->manifest, file);
    std::vector<std::byte> page(page_bytes, std::byte{0x5a});
    REQUIRE(restored->machine->memory().write(3000 * page_bytes, page));
    REQUIRE((*writer)->begin(restored->digest,
                             {restored->manifest.config, 2, restored->manifest.inputs}));
    (*writer)->release();
    const auto second = *(*writer)->wait();
    REQUIRE_MESSAGE(second, second.error());
    CHECK((second->pages == 1) == !elsewhere);
    auto again = restore_checkpoint(
        manifest_path(elsewhere ? other.path : directory.path, second->name), console);
    REQUIRE_MESSAGE(again, again.error());
    CHECK(memory_of(*again) == memory_of(*restored));
  }
}

TEST_CASE(
    "old checkpoints go, packs that newer ones need stay, and sparse packs are written anew") {
  const Directory directory;
  Subject subject(directory.path, 2);
  NoConsole console;
  for (unsigned round = 0; round < 80; ++round) {
    subject.scribble(round, 300);
    subject.digest.take(subject.guest.machine());
    REQUIRE(subject.checkpoint());
    CHECK(directory.files(manifest_suffix).size() <= 2);
  }
  CHECK(directory.files(pack_suffix).size() < 60);
  for (const fs::path& file : directory.files(manifest_suffix)) {
    auto restored = restore_checkpoint(file, console);
    REQUIRE_MESSAGE(restored, restored.error());
  }
  const auto list = list_checkpoints(directory.path);
  REQUIRE(list);
  auto newest = restore_checkpoint(list->checkpoints.back().path, console);
  REQUIRE(newest);
  CHECK(memory_of(*newest) == subject.memory());
}

void overwrite(const fs::path& file, const Bytes& bytes) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

TEST_CASE("a flipped bit, a cut, a missing file or another name are refused, naming the file") {
  const Directory directory;
  Subject subject(directory.path);
  subject.scribble(1, 3000);
  const auto written = subject.checkpoint();
  REQUIRE(written);
  const fs::path manifest = manifest_path(directory.path, written->name);
  const fs::path pack = directory.files(pack_suffix).front();
  NoConsole console;
  const auto refusal = [&] {
    auto restored = restore_checkpoint(manifest, console);
    return restored ? std::string() : restored.error();
  };
  REQUIRE(refusal().empty());
  std::mt19937_64 random(7);
  for (const fs::path& file : {manifest, pack}) {
    const auto good = read_file(file, manifest_bytes_max);
    REQUIRE(good);
    for (int round = 0; round < 30; ++round) {
      Bytes bad = *good;
      bad[random() % bad.size()] ^= static_cast<std::byte>(1u << random() % 8);
      overwrite(file, bad);
      CHECK(refusal().find(file.string()) != std::string::npos);
    }
    Bytes cut = *good;
    cut.resize(random() % cut.size());
    overwrite(file, cut);
    CHECK(refusal().find(file.string()) != std::string::npos);
    fs::remove(file);
    CHECK(refusal().find(file.string()) != std::string::npos);
    overwrite(file, *good);
    REQUIRE(refusal().empty());
  }
  const fs::path renamed = directory.path / "snapshot.checkpoint";
  fs::copy(manifest, renamed);
  CHECK(!restore_checkpoint(renamed, console));
}

TEST_CASE("a manifest that says something impossible is refused, whatever its hash") {
  const Directory directory;
  Subject subject(directory.path);
  subject.scribble(1, 500);
  const auto written = subject.checkpoint();
  REQUIRE(written);
  const auto good = read_file(manifest_path(directory.path, written->name), manifest_bytes_max);
  REQUIRE(good);
  std::mt19937_64 random(11);
  NoConsole console;
  unsigned refused = 0;
  for (int round = 0; round < 300; ++round) {
    Bytes bad = *good;
    for (std::uint64_t i = 0; i <= random() % 4; ++i)
      bad[random() % bad.size()] = static_cast<std::byte>(random());
    if (random() % 4 == 0) bad.resize(random() % bad.size());
    const Sha256 name = sha256_of(bad);
    const fs::path file = manifest_path(directory.path, name);
    overwrite(file, bad);
    if (!decode_manifest(bad)) ++refused;
    if (auto restored = restore_checkpoint(file, console); !restored) {
      CHECK(restored.error().starts_with(restored.error().starts_with("pack") ? "pack \""
                                                                              : "checkpoint \""));
    }
    fs::remove(file);
  }
  CHECK(refused > 100);
}

TEST_CASE("another version is refused, saying which") {
  const Directory directory;
  Subject subject(directory.path);
  const auto written = subject.checkpoint();
  REQUIRE(written);
  auto bytes = read_file(manifest_path(directory.path, written->name), manifest_bytes_max);
  REQUIRE(bytes);
  const std::string_view key = "format";
  const auto found = std::ranges::search(*bytes, as_byte_span(key));
  REQUIRE(!found.empty());
  *found.end() = std::byte{7};
  const auto manifest = decode_manifest(*bytes);
  REQUIRE(!manifest);
  CHECK(manifest.error() == "it is of format version 7, this program reads version 1");
}

TEST_CASE("a writer that dies leaves nothing that counts, and the next one clears up") {
  const Directory directory;
  fs::path first;
  {
    Subject subject(directory.path);
    subject.scribble(1, 3000);
    const auto written = subject.checkpoint();
    REQUIRE(written);
    first = manifest_path(directory.path, written->name);
    subject.scribble(2, 3000);
    const MachineConfig config = TinyGuest::default_config();
    REQUIRE(subject.writer->begin(subject.digest, {config, 2, subject.inputs}));
    // No leave: the writer's end takes the child with it.
  }
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // it was reaped
  CHECK(directory.files(manifest_suffix).size() == 1);
  std::ofstream(directory.path / ".new-1-2") << "half";
  const std::size_t packs_before = directory.files(pack_suffix).size();
  Subject next(directory.path);
  CHECK(directory.files(pack_suffix).size() <= packs_before);
  CHECK(!fs::exists(directory.path / ".new-1-2"));
  NoConsole console;
  CHECK(restore_checkpoint(first, console));
}

TEST_CASE("a directory that cannot be written is an error, and the next checkpoint has all") {
  const Directory directory;
  Subject subject(directory.path);
  subject.scribble(1, 2000);
  const auto first = subject.checkpoint();
  REQUIRE(first);
  subject.scribble(2, 2000);
  fs::permissions(directory.path, fs::perms::owner_read | fs::perms::owner_exec);
  const auto failed = subject.checkpoint();
  fs::permissions(directory.path, fs::perms::owner_all);
  if (::geteuid() != 0) {
    REQUIRE(!failed);
    CHECK(failed.error().find(directory.path.string()) != std::string::npos);
  }
  const auto after = subject.checkpoint();
  REQUIRE(after);
  NoConsole console;
  auto restored = restore_checkpoint(manifest_path(directory.path, after->name), console);
  REQUIRE(restored);
  CHECK(memory_of(*restored) == subject.memory());
}

TEST_CASE("the child holds no descriptor of its parent") {
  const Directory directory;
  Subject subject(directory.path);
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const MachineConfig config = TinyGuest::default_config();
  REQUIRE(subject.writer->begin(subject.digest, {config, 1, subject.inputs}));
  ::close(ends[1]);
  char byte = 0;
  CHECK(::read(ends[0], &byte, 1) == 0);  // the end of the stream: nobody else has it open
  ::close(ends[0]);
  subject.writer->release();
  CHECK(*subject.writer->wait());
}

}  // namespace
}  // namespace node_mesh
