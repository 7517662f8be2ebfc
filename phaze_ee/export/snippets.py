"""Ten lines each that run an exported file, in Python and in C++; they are written beside it."""

PYTHON = '''\
"""Run model.onnx. Needs onnxruntime and numpy; preprocess.json says how the inputs are made of a jet's particles."""

import json
from pathlib import Path

import numpy as np
import onnxruntime

model = str(Path(__file__).with_name("model.onnx"))
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
particles = 40  # any number; shapes are (jets, variables, particles), and the mask is 1 where there is a particle
inputs = {value.name: np.zeros((1, value.shape[1], particles), np.float32) for value in session.get_inputs()}
for name in inputs:
    inputs[name][:] = name.endswith("mask")
scores, exit_index = session.run(None, inputs)
print(dict(zip(classes, scores[0].tolist())), "exit", int(exit_index[0]))
'''

CPP = """\
// Runs model.onnx, or the file that is named, with ONNX Runtime: g++ -std=c++17 example.cpp -lonnxruntime. The class
// ONNXRuntime of CMSSW and the WeaverInterface of FCCAnalyses take model.onnx and preprocess.json as they are; read
// output [0].
#include <onnxruntime_cxx_api.h>
#include <cstdio>
#include <vector>

int main(int count, char** arguments) {{
  Ort::Env env;
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);  // a jet is too small for more
  Ort::Session session(env, count > 1 ? arguments[1] : "model.onnx", options);
  const char* names[] = {{{names}}};
  const int64_t variables[] = {{{channels}}}, particles = 40;
  const float fill[] = {{{fill}}};  // 1 for a mask: all slots are particles
  const char* outputs[] = {{"softmax", "exit_index"}};
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < {count}; ++i) values.emplace_back(variables[i] * particles, fill[i]);
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Ort::Value> inputs;
  for (size_t i = 0; i < values.size(); ++i) {{
    const int64_t shape[] = {{1, variables[i], particles}};
    inputs.push_back(Ort::Value::CreateTensor<float>(memory, values[i].data(), values[i].size(), shape, 3));
  }}
  auto results = session.Run(Ort::RunOptions{{nullptr}}, names, inputs.data(), inputs.size(), outputs, 2);
  std::printf("first class %g, exit %g\\n", results[0].GetTensorData<float>()[0], results[1].GetTensorData<float>()[0]);
}}
"""


def cpp(channels: dict[str, int]) -> str:
    """Return the C++ program for a file with these inputs, by name, and their numbers of variables."""
    names = ", ".join(f'"{name}"' for name in channels)
    fill = ", ".join(f"{int(name.endswith('mask'))}.f" for name in channels)
    return CPP.format(names=names, channels=", ".join(map(str, channels.values())), fill=fill, count=len(channels))
