// Makes a library of operators importable as cgckit._C or cgckit._cuda; importing it registers them.
#include <Python.h>

#define CGCKIT_QUOTED(text) #text
#define CGCKIT_STRING(text) CGCKIT_QUOTED(text)
#define CGCKIT_JOINED(a, b) a##b
#define CGCKIT_INITIALISER(module) CGCKIT_JOINED(PyInit_, module)

static PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                 CGCKIT_STRING(CGCKIT_MODULE),
                                 "Operators of cgckit, under torch.ops.cgckit.",
                                 -1,  // no per-interpreter state
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr};

PyMODINIT_FUNC CGCKIT_INITIALISER(CGCKIT_MODULE)() { return PyModule_Create(&definition); }
