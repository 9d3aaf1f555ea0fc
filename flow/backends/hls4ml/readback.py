def check_project(project, graph, target):
    pass
