// The container: whole logs come back, a log cut anywhere gives its whole chunks and says that it
// was cut, a flipped bit anywhere is refused.
#include "replay/log_file.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "sample_log.h"

namespace node_mesh {
namespace {

using namespace test;
namespace fs = std::filesystem;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (fs::temp_directory_path() / "log_file_test.XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() { fs::remove_all(path_); }
  fs::path operator/(const char* name) const { return path_ / name; }

 private:
  fs::path path_;
};

void put(const fs::path& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

Bytes small_chunk(std::uint64_t number) {
  return encode_chunk({number,
                       {number * 10, 0},
                       {number * 10 + 10, 0},
                       number,
                       0,
                       {{{number * 10 + 1, 0}, ClockEvent{number * 100, 1ull << 32}}}});
}

constexpr std::uint64_t small_chunk_count = 4;

Bytes write_small_log(const fs::path& path) {
  auto writer = LogWriter::create(path, sample_config());
  REQUIRE(writer);
  for (std::uint64_t i = 0; i < small_chunk_count; ++i)
    REQUIRE(writer->add_chunk(small_chunk(i)));
  REQUIRE(writer->finish({small_chunk_count, small_chunk_count, 3}));
  auto bytes = read_file(path, 1 << 20);
  REQUIRE(bytes);
  CHECK(bytes->size() == writer->bytes());
  return *bytes;
}

struct ReadBack {
  bool refused = false;
  std::string error;
  std::uint64_t chunks = 0;
  bool complete = false;
};

ReadBack read_back(const fs::path& path) {
  ReadBack result;
  auto reader = LogReader::open(path);
  if (!reader) return {true, reader.error(), 0, false};
  for (;;) {
    auto chunk = reader->next();
    if (!chunk) return {true, chunk.error(), result.chunks, false};
    if (!*chunk) break;
    CHECK((*chunk)->bytes == small_chunk(result.chunks));
    ++result.chunks;
  }
  result.complete = reader->missing().empty();
  CHECK(result.complete == reader->totals().has_value());
  return result;
}

TEST_CASE("a log comes back whole") {
  const TemporaryDirectory directory;
  write_small_log(directory / "log");
  const ReadBack result = read_back(directory / "log");
  CHECK(!result.refused);
  CHECK(result.complete);
  CHECK(result.chunks == small_chunk_count);
}

TEST_CASE("a log cut at any byte gives its whole chunks and is not complete") {
  const TemporaryDirectory directory;
  const Bytes whole = write_small_log(directory / "log");
  std::uint64_t most = 0;
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    put(directory / "cut", std::span(whole).first(cut));
    const ReadBack result = read_back(directory / "cut");
    CHECK(!result.complete);
    CHECK(result.chunks >= most);
    most = result.chunks;
    if (result.refused) CHECK(result.chunks == 0);  // cut inside the header
  }
  CHECK(most == small_chunk_count);
}

TEST_CASE("zeros where the rest should be are a cut too") {
  const TemporaryDirectory directory;
  Bytes bytes = write_small_log(directory / "log");
  bytes.resize(bytes.size() - 12 - 3 - 4);  // the end frame
  bytes.resize(bytes.size() + 5000);
  put(directory / "zeros", bytes);
  const ReadBack result = read_back(directory / "zeros");
  CHECK(!result.refused);
  CHECK(!result.complete);
  CHECK(result.chunks == small_chunk_count);
}

TEST_CASE("any flipped bit is refused") {
  const TemporaryDirectory directory;
  const Bytes whole = write_small_log(directory / "log");
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    Bytes flipped = whole;
    flipped[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    put(directory / "flipped", flipped);
    const ReadBack result = read_back(directory / "flipped");
    CAPTURE(bit);
    CHECK(result.refused);
    if (bit >= 64) CHECK_MESSAGE(result.error.find("offset") != std::string::npos, result.error);
  }
}

TEST_CASE("bytes after the end, and frames out of order, are refused") {
  const TemporaryDirectory directory;
  Bytes bytes = write_small_log(directory / "log");
  Bytes more = bytes;
  more.push_back(std::byte{0});
  put(directory / "more", more);
  CHECK(read_back(directory / "more").refused);

  const std::size_t frame = 12 + small_chunk(0).size() + 4;
  const std::size_t end = bytes.size() - (12 + 3 + 4);
  Bytes without(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(end - frame));
  without.insert(without.end(), bytes.begin() + static_cast<std::ptrdiff_t>(end), bytes.end());
  put(directory / "without", without);
  CHECK(read_back(directory / "without").refused);
}

TEST_CASE("embedded images come back and are checked") {
  const TemporaryDirectory directory;
  Bytes image(3 * image_piece_bytes_max + 17);
  for (std::size_t i = 0; i < image.size(); ++i)
    image[i] = static_cast<std::byte>(i * i >> 7);
  const Sha256 name = sha256_of(image);
  auto writer = LogWriter::create(directory / "log", sample_config());
  REQUIRE(writer);
  REQUIRE(writer->add_image(name, image));
  REQUIRE(writer->add_chunk(small_chunk(0)));
  REQUIRE(writer->finish({1, 1, 0}));
  CHECK(writer->bytes() < 1000);
  auto reader = LogReader::open(directory / "log");
  REQUIRE(reader);
  CHECK(reader->bytes() == writer->bytes());
  REQUIRE(reader->has_image(name));
  const auto back = reader->read_image(name);
  REQUIRE(back);
  CHECK(*back == image);
  CHECK(!reader->has_image(Sha256{}));
}

TEST_CASE("a log replaces a log and nothing else") {
  const TemporaryDirectory directory;
  put(directory / "text", as_byte_span("a text"));
  CHECK(!LogWriter::create(directory / "text", sample_config()));
  CHECK(read_file(directory / "text", 100)->size() == 6);
  write_small_log(directory / "log");
  write_small_log(directory / "log");
  CHECK(!LogReader::open(directory / "text"));
  CHECK(!LogReader::open(directory / "nothing"));
}

TEST_CASE("a full disk leaves a log of the whole chunks") {
  const TemporaryDirectory directory;
  auto writer = LogWriter::create(directory / "log", sample_config());
  REQUIRE(writer);
  REQUIRE(writer->add_chunk(small_chunk(0)));
  // A limit on the size of files stands in for a full disk.
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
  rlimit low = old;
  low.rlim_cur = writer->bytes() + 20;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &low) == 0);
  const auto added = writer->add_chunk(small_chunk(1));
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  CHECK(!added);
  const ReadBack result = read_back(directory / "log");
  CHECK(!result.refused);
  CHECK(result.chunks == 1);
  CHECK(fs::file_size(directory / "log") == writer->bytes());
}

}  // namespace
}  // namespace node_mesh
