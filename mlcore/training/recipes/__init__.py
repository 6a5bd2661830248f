"""One module a task: data -> trainer -> bundle. The file is named after the task."""
