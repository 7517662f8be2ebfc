// Runs exported files as the producers of CMSSW and FCCAnalyses do: preprocess.json says how the inputs of a jet are made
// of its particles, one jet per call, one thread, every output read as float. Nothing but the C library of ONNX Runtime,
// opened at run time, so that one program serves every version.
//
//   consumer LIBRARY JETS 0 FOLDER          a line per jet: probabilities, then the other outputs
//   consumer LIBRARY JETS ROUNDS FOLDER…    the folders in turn, ROUNDS times: a line per folder, microseconds of CPU a jet
//
// A folder holds model.onnx and preprocess.json. FOLDER:trim pads no jet beyond 17 particles, instead of var_length.
// FOLDER:fcc is as strict as FCCAnalyses: the session says which inputs there are and in which order, the file may
// describe no others, and min_length or max_length are errors.
// JETS: the names of the variables in one line, then for each jet an int32 with its particles and float32 values, one
// variable after the other.
#include <dlfcn.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

// ---- The C interface of ONNX Runtime: a table of functions, whose places never change. Only those used are named.
struct Base {
  const void *const *(*table)(uint32_t);
  const char *(*version)();
};
enum Place {
  kErrorMessage = 2, kCreateEnv = 3, kCreateSession = 7, kRun = 9, kCreateOptions = 10, kOptimization = 23,
  kIntraThreads = 24, kInterThreads = 25, kInputCount = 30, kOutputCount = 31, kInputName = 36, kOutputName = 37, kTensorOn = 49, kData = 51,
  kElementCount = 64, kShapeOf = 65, kCpuMemory = 69, kAllocator = 78, kReleaseValue = 96, kReleaseShape = 99
};
static const void *const *functions;
template <typename... Arguments> void *call(Place place, Arguments... arguments) {
  return reinterpret_cast<void *(*)(Arguments...)>(const_cast<void *>(functions[place]))(arguments...);
}
template <typename... Arguments> void check(Place place, Arguments... arguments) {
  if (void *status = call(place, arguments...))
    throw std::runtime_error(static_cast<const char *>(call(kErrorMessage, static_cast<const void *>(status))));
}

// ---- preprocess.json: objects, lists, texts and numbers.
struct Json {
  std::map<std::string, Json> members;
  std::vector<Json> items;
  std::string text;
  double number = 0;
};
static Json parse(std::istream &in) {
  Json value;
  char first;
  in >> first;
  if (first == '{' || first == '[') {
    const char last = first == '{' ? '}' : ']';
    while ((in >> std::ws).peek() != last) {
      if (in.peek() == ',') in.get();
      Json item = parse(in);
      if (last == ']') { value.items.push_back(item); continue; }
      in >> first;  // the colon
      value.members[item.text] = parse(in);
    }
    in.get();
  } else if (first == '"') {
    std::getline(in, value.text, '"');
  } else {
    in.putback(first);
    std::string word;
    while (in.peek() != ',' && in.peek() != '}' && in.peek() != ']' && !std::isspace(in.peek())) word += in.get();
    value.number = std::atof(word.c_str());
  }
  return value;
}

struct Jet {
  int particles;
  std::vector<float> values;  // (variables, particles)
};
struct Variable { size_t column; float median, factor, infinite, lower, upper, pad; };
struct Group { std::string name; size_t length; std::vector<Variable> variables; };

struct File {
  std::vector<Group> groups;
  std::vector<std::string> outputs;
  void *session = nullptr;
  bool trim;
  std::vector<double> seconds;

  File(const std::string &folder, const std::string &kind, const std::vector<std::string> &names, void *env) : trim(kind == "trim") {
    std::ifstream in(folder + "/preprocess.json");
    const Json json = parse(in);
    for (const Json &name : json.members.at("input_names").items) {
      const Json &described = json.members.at(name.text);
      if (kind == "fcc" && (described.members.count("min_length") || described.members.count("max_length")))
        throw std::runtime_error("an input has no fixed length: " + name.text);
      Group group{name.text, size_t(described.members.at("var_length").number), {}};
      for (const Json &variable : described.members.at("var_names").items) {
        const auto found = std::find(names.begin(), names.end(), variable.text);
        if (found == names.end()) throw std::runtime_error("the jets lack " + variable.text);
        const auto &info = described.members.at("var_infos").members.at(variable.text).members;
        auto number = [&](const char *key) { return float(info.at(key).number); };
        group.variables.push_back({size_t(found - names.begin()), number("median"), number("norm_factor"),
                                   number("replace_inf_value"), number("lower_bound"), number("upper_bound"), number("pad")});
      }
      groups.push_back(group);
    }
    void *options = nullptr;
    check(kCreateOptions, &options);
    check(kIntraThreads, options, 1);
    check(kInterThreads, options, 1);
    check(kOptimization, options, 99);
    check(kCreateSession, env, (folder + "/model.onnx").c_str(), options, &session);
    outputs = names_of(kOutputCount, kOutputName);
    if (kind == "fcc") as_in_session(names_of(kInputCount, kInputName));
  }

  std::vector<std::string> names_of(Place count_of, Place name_of) const {
    size_t count = 0;
    check(count_of, session, &count);
    void *allocator = nullptr;
    check(kAllocator, &allocator);
    std::vector<std::string> found;
    for (size_t index = 0; index < count; ++index) {
      char *name = nullptr;
      check(name_of, session, index, allocator, &name);
      found.push_back(name);
    }
    return found;
  }

  void as_in_session(const std::vector<std::string> &inputs) {
    std::vector<Group> ordered;
    for (const std::string &input : inputs) {
      const auto found = std::find_if(groups.begin(), groups.end(), [&](const Group &group) { return group.name == input; });
      if (found == groups.end()) throw std::runtime_error("preprocess.json does not describe the input " + input);
      ordered.push_back(*found);
    }
    if (ordered.size() < groups.size()) throw std::runtime_error("preprocess.json describes an input that the file lacks");
    groups = ordered;
  }

  // The values of a group as the producers make them: centred, scaled, limited; padded or cut to the length.
  std::vector<float> input(const Group &group, const Jet &jet, size_t length) const {
    std::vector<float> made;
    made.reserve(group.variables.size() * length);
    for (const Variable &variable : group.variables)
      for (size_t slot = 0; slot < length; ++slot) {
        if (slot >= size_t(jet.particles)) { made.push_back(variable.pad); continue; }
        float value = jet.values[variable.column * jet.particles + slot];
        if (!std::isfinite(value)) value = variable.infinite;
        made.push_back(std::min(variable.upper, std::max(variable.lower, (value - variable.median) * variable.factor)));
      }
    return made;
  }

  std::vector<std::vector<float>> run(const Jet &jet, void *memory) const {
    std::vector<std::vector<float>> values;
    std::vector<void *> inputs, results(outputs.size(), nullptr);
    std::vector<const char *> names, wanted;
    for (const Group &group : groups) {
      const size_t length = trim ? std::min(group.length, std::max<size_t>(17, jet.particles)) : group.length;
      values.push_back(input(group, jet, length));
      const int64_t shape[] = {1, int64_t(group.variables.size()), int64_t(length)};
      void *tensor = nullptr;
      check(kTensorOn, memory, static_cast<void *>(values.back().data()), values.back().size() * sizeof(float),
            static_cast<const int64_t *>(shape), size_t(3), 1, &tensor);
      inputs.push_back(tensor);
      names.push_back(group.name.c_str());
    }
    for (const std::string &name : outputs) wanted.push_back(name.c_str());
    check(kRun, session, static_cast<void *>(nullptr), static_cast<const char *const *>(names.data()),
          static_cast<void *const *>(inputs.data()), inputs.size(), static_cast<const char *const *>(wanted.data()),
          wanted.size(), results.data());
    std::vector<std::vector<float>> read;
    for (void *result : results) {
      void *shape = nullptr, *data = nullptr;
      size_t count = 0;
      check(kShapeOf, result, &shape);
      check(kElementCount, shape, &count);
      call(kReleaseShape, shape);
      check(kData, result, &data);
      read.emplace_back(static_cast<float *>(data), static_cast<float *>(data) + count);
      call(kReleaseValue, result);
    }
    for (void *tensor : inputs) call(kReleaseValue, tensor);
    return read;
  }
};

static double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}
static long peak_kilobytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

int main(int argc, char **argv) try {
  if (argc < 5) return 2;
  void *library = dlopen(argv[1], RTLD_NOW);
  if (!library) throw std::runtime_error(dlerror());
  const Base *base = reinterpret_cast<const Base *(*)()>(dlsym(library, "OrtGetApiBase"))();
  functions = base->table(10);
  void *env = nullptr, *memory = nullptr;
  check(kCreateEnv, 3, "consumer", &env);
  check(kCpuMemory, 1, 0, &memory);

  std::ifstream in(argv[2], std::ios::binary);
  std::string line, name;
  std::getline(in, line);
  std::istringstream words(line);
  const std::vector<std::string> names{std::istream_iterator<std::string>(words), {}};
  std::vector<Jet> jets;
  for (int32_t count; in.read(reinterpret_cast<char *>(&count), 4);) {
    jets.push_back({count, std::vector<float>(names.size() * count)});
    in.read(reinterpret_cast<char *>(jets.back().values.data()), 4 * jets.back().values.size());
  }
  std::vector<File> files;
  for (int index = 4; index < argc; ++index) {
    const std::string spec = argv[index];
    const size_t colon = spec.rfind(':');
    files.emplace_back(spec.substr(0, colon), colon == std::string::npos ? "" : spec.substr(colon + 1), names, env);
  }
  const int rounds = std::atoi(argv[3]);
  for (const Jet &jet : jets) {
    for (const File &file : files) {
      const auto results = file.run(jet, memory);  // also warms up
      if (rounds > 0) continue;
      for (const auto &result : results)
        for (float value : result) std::printf("%.9g ", value);
      std::printf("\n");
    }
  }
  const long before = peak_kilobytes();
  for (int round = 0; round < rounds; ++round)
    for (File &file : files) {
      const double start = cpu_seconds();
      for (const Jet &jet : jets) file.run(jet, memory);
      file.seconds.push_back((cpu_seconds() - start) / jets.size());
    }
  for (int index = 4; rounds > 0 && index < argc; ++index) {
    std::vector<double> &seconds = files[index - 4].seconds;
    std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
    std::printf("%.2f %s\n", 1e6 * seconds[rounds / 2], argv[index]);
  }
  std::fprintf(stderr, "ONNX Runtime %s, %zu jets, memory grew by %ld kB\n", base->version(), jets.size(), peak_kilobytes() - before);
  return 0;
} catch (const std::exception &error) {
  std::fprintf(stderr, "consumer: %s\n", error.what());
  return 1;
}
